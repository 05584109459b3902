"""What LoRA fine-tuning of the 7B shape takes on one GPU, beside a plain loop with peft and transformers."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu.loops import SEVEN_B, TINY, Shape, Step, by_hand, sample_flops, toolkit
from benchmarks.rows import Row, interleaved, machine, spread
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.stages.throughput import peak_flops

__all__ = ["measure"]

REPEATS, GB, PEER = 5, 1e9, "peft and Hugging Face loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop that has taken its first steps."""

    step: Step
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
    # One after the other: what comes on top of those before is a loop's own.
    loops = {
        "ours": _begun(partial(toolkit, shape, device), device),
        "ours, computed twice": _begun(
            partial(toolkit, shape, device, activation_checkpointing=True), device
        ),
        "peer": _begun(partial(by_hand, shape, device), device),
    }
    speeds = interleaved(
        {name: partial(_speed, loop.step, shape, device) for name, loop in loops.items()}, repeats=REPEATS
    )
    return _rows(shape, device, loops, speeds, flops)


def _begun(make: Callable[[], Step], device: torch.device) -> Loop:
    """Make a loop and let it take two steps; the peak is counted from what was there before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        step = make()
        torch.cuda.reset_peak_memory_stats(device)  # the network was made in fp32
    else:
        step = make()
    losses = [step(), step()]
    if not all(map(math.isfinite, losses)):
        raise RuntimeError(f"the losses are {losses}: this is no training that could be measured.")
    peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else math.nan
    return Loop(step=step, peak=float(peak))


def _speed(step: Step, shape: Shape, device: torch.device) -> float:
    """Return samples per second over some steps; the loss that each returns is waited for."""
    began = time.perf_counter()
    for _ in range(shape.steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return shape.steps * shape.batch / (time.perf_counter() - began)


def _rows(
    shape: Shape, device: torch.device, loops: dict[str, Loop], speeds: dict[str, list[float]], flops: int
) -> list[Row]:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    place = f"{card}, {machine()}, torch {torch.__version__}"
    peer, theirs = statistics.median(speeds["peer"]), loops["peer"].peak
    rows: list[Row] = []
    for name in ("ours", "ours, computed twice"):
        twice = name != "ours"
        speed, memory = statistics.median(speeds[name]), loops[name].peak
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
