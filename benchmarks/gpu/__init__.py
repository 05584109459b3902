"""What LoRA fine-tuning of the 7B shape takes on one GPU, beside a plain loop with peft and transformers."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import torch

from benchmarks.gpu.loops import ATTENTION, SEVEN_B, TINY, Shape, Step, by_hand, sample_flops, toolkit
from benchmarks.rows import Row, machine, spread
from openvla_toolkit.core.devices import release_memory
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.stages.training.throughput import peak_flops

__all__ = ["measure"]

REPEATS, GB, PEER = 5, 1e9, "peft and Hugging Face loop"


class Turn(NamedTuple):
    """What a loop did in one turn, alone on the device."""

    speed: float
    """Samples per second."""
    peak: float
    """The most bytes that it has taken, weights and all; not a number on the CPU."""


def measure(*, tiny: bool = False) -> list[Row]:
    """Measure samples per second, the share of the card's peak and memory, of all loops in turns.

    Args:
        tiny: a network of no size, also on the CPU: whether the code works, not what it takes.

    Raises:
        UserError: there is no CUDA device.
    """
    if not torch.cuda.is_available() and not tiny:
        raise UserError(
            "gpu: there is no CUDA device, and nothing here can stand for one. On this machine "
            "'python -m benchmarks gpu --tiny' shows that the code works."
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = TINY if tiny else SEVEN_B
    flops = sample_flops(shape)
    loops = {
        "ours": partial(toolkit, shape, device),
        "ours, computed twice": partial(toolkit, shape, device, activation_checkpointing=True),
        "peer": partial(by_hand, shape, device),
    }
    turns: dict[str, list[Turn]] = {name: [] for name in loops}
    for _ in range(REPEATS):
        for name, make in loops.items():  # made anew each time: two would not fit on a card of 80 GB
            turns[name].append(_turn(make, shape, device))
    return _rows(shape, device, turns, flops)


def _turn(make: Callable[[], Step], shape: Shape, device: torch.device) -> Turn:
    """Make a loop, let it take two steps, and time some more; the loss that each returns is waited for."""
    release_memory()
    step = make()
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)  # the network was made in fp32
    losses = [step(), step()]
    if not all(map(math.isfinite, losses)):
        raise RuntimeError(f"the losses are {losses}: this is no training that could be measured.")
    began = time.perf_counter()
    for _ in range(shape.steps):
        step()
    if on_card:
        torch.cuda.synchronize(device)
    speed = shape.steps * shape.batch / (time.perf_counter() - began)
    return Turn(speed, float(torch.cuda.max_memory_allocated(device)) if on_card else math.nan)


def _rows(shape: Shape, device: torch.device, turns: dict[str, list[Turn]], flops: int) -> list[Row]:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    place = f"{card}, {machine()}, torch {torch.__version__}"
    speeds = {name: [turn.speed for turn in own] for name, own in turns.items()}
    peaks = {name: max(turn.peak for turn in own) for name, own in turns.items()}
    peer, theirs = statistics.median(speeds["peer"]), peaks["peer"]
    rows: list[Row] = []
    for name in ("ours", "ours, computed twice"):
        twice = name != "ours"
        speed, memory = statistics.median(speeds[name]), peaks[name]
        what = f"LoRA r{shape.rank}, bf16, batch {shape.batch}{', blocks computed twice' if twice else ''}"
        settings = {
            "model": shape.name,
            "text": shape.text,
            "steps": shape.steps,
            "figure": "median",
            "spread": spread(speeds[name]),
            "peer_spread": spread(speeds["peer"]),
            "repeats": REPEATS,
            "order": "interleaved",
            "flops_per_sample": flops,
            "attention": ATTENTION,
            "packages": ", ".join(f"{name} {version(name)}" for name in ("peft", "transformers", "timm")),
            "cuda": torch.version.cuda or "none",
        }
        row = partial(Row, peer=PEER, machine=place, settings=settings)
        target, met = ("", None) if twice else ("ratio >= 1", speed >= peer)
        rows.append(
            row(
                name=f"{what}: speed",
                value=speed,
                unit="samples/s",
                peer_value=peer,
                target=target,
                met=met,
            )
        )
        if not math.isnan(memory):
            target, met = ("<= 40 GB", memory <= 40 * GB) if twice else ("ratio <= 1", memory <= theirs)
            rows.append(
                row(
                    name=f"{what}: peak memory",
                    value=memory / GB,
                    unit="GB",
                    peer_value=theirs / GB,
                    target=target,
                    met=met,
                )
            )
        if (peak := peak_flops(card)) is not None:
            share = 100 * flops / peak
            rows.append(
                row(name=f"{what}: MFU", value=speed * share, unit="%", peer_value=peer * share, target="")
            )
    return rows
