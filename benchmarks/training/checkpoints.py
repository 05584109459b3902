"""How long a checkpoint keeps the training waiting, beside one step and beside writing it on the spot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import Row, spread
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.stages.training.saver import Saver

__all__ = ["measure_stall"]

WARMUP, SAVES, APART = 3, 7, 6


def measure_stall(policy: Policy, batch: Mapping[str, Any], folder: Path) -> list[Row]:
    """Save every few steps, on a thread and on the spot, and compare with the steps between.

    What counts is what the loop waits for: copying, and a checkpoint before that is not yet written. How much
    slower the steps are beside which a checkpoint is written stands in the settings.
    """
    engine: Any = by_name("engine")({"name": "single"}).build()  # type: ignore[attr-defined]
    engine.prepare(policy.module, Optimizer(lr=1e-4))
    saver = Saver(policy, engine, output=folder, keep=1, keep_best=None, tell=Observers([]).tell)

    def step() -> float:
        return _seconds(lambda: engine.step([batch], policy.loss, lr=1e-4, clip_norm=1.0))

    for _ in range(WARMUP):
        step()
    plain = [step() for _ in range(SAVES * APART)]
    waits, between = [], []
    for number in range(SAVES):
        waits.append(_seconds(lambda: saver.save(number, {"figures": {}})))  # noqa: B023  # called at once
        between += [step() for _ in range(APART)]
        saver.poll()
    saver.finish()
    spots = [_seconds(lambda: _on_the_spot(policy, engine, folder / "spot.pt")) for _ in range(SAVES)]
    one_step, wait = statistics.median(plain), statistics.median(waits)
    slower = statistics.median(between) / one_step - 1
    settings = {
        "parameters": sum(parameter.numel() for parameter in policy.module.parameters()),
        "threads": torch.get_num_threads(),
        "saves": SAVES,
        "figure": "median",
        "spread": spread([1e3 * wait for wait in waits]),
        "steps beside it": f"{slower:+.0%} slower",
    }

    def row(peer: str, peer_times: list[float], target: str, met: bool | None) -> Row:
        return Row(
            name="training kept waiting by a checkpoint",
            value=wait * 1e3,
            unit="ms",
            peer=peer,
            peer_value=statistics.median(peer_times) * 1e3,
            target=target,
            met=met,
            settings={**settings, "peer_spread": spread([1e3 * one for one in peer_times])},
        )

    return [
        row("one step", plain, "ratio < 1", wait < one_step),
        row("torch.save of weights and optimizer", spots, "", None),
    ]


def _on_the_spot(policy: Policy, engine: Any, path: Path) -> None:
    """Do what a loop written by hand does."""
    torch.save({"model": policy.module.state_dict(), "optimizer": engine._optimizer.state_dict()}, path)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
