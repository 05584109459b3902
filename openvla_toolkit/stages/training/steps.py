"""The optimizer steps of a training, and all that is counted about them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import NotFinite
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import Train
from openvla_toolkit.interfaces.engine import Engine
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.pipeline.loader import Batch, accumulated
from openvla_toolkit.stages.prepare import Prepared
from openvla_toolkit.stages.training.guard import Guard
from openvla_toolkit.stages.training.measures import measured
from openvla_toolkit.stages.training.meter import Meter
from openvla_toolkit.stages.training.schedule import learning_rate
from openvla_toolkit.stages.training.throughput import Machine, peak_flops

__all__ = ["Steps", "samples_at_a_time"]


class Steps:
    """Takes one step after the other."""

    def __init__(
        self,
        section: Train,
        policy: Policy,
        engine: Engine,
        prepared: Sequence[Prepared],
        *,
        sample_flops: float | None,
    ) -> None:
        self._section, self._engine = section, engine
        self._loss = measured(policy, prepared)
        self._datasets = [item.name for item in prepared]
        self._passes = section.batch.total // Ranks.here().world_size // samples_at_a_time(section)
        self._guard = Guard(section.on_nonfinite)
        self._meter = Meter(_machine(section, sample_flops))

    @property
    def verdict(self) -> str | None:
        """Why the training must stop before the step that was asked for; None while it can go on."""
        return self._guard.verdict

    def take(self, step: int, stream: Iterator[Batch]) -> int:
        """Take step ``step``, counted from 0, or skip its update; return 1, or 0 where it is refused."""
        section, meter = self._section, self._meter
        rate = learning_rate(step, peak=section.optimizer.lr, steps=section.steps, schedule=section.schedule)
        began = time.perf_counter()
        micro = meter.waiting(accumulated(stream, self._passes))
        try:
            report = self._engine.step(micro, self._loss, lr=rate, clip_norm=section.clip_norm)
        except NotFinite as error:
            self._guard.refused(step + 1, error, (self._datasets[one] for one in meter.datasets))
            return int(self.verdict is None)
        self._guard.passed()
        meter.add(report, lr=rate, samples=section.batch.total, seconds=time.perf_counter() - began)
        return 1

    def skip(self, counts: Mapping[str, int]) -> None:
        """Count samples that could not be read and were replaced, by data set."""
        self._meter.skip(counts)

    def flush(self) -> dict[str, float]:
        """Return what there is to tell since the last time; all ranks take part."""
        skipped = {"skipped_updates": float(self._guard.skipped)} if self._guard.skipped else {}
        return self._meter.flush() | skipped

    @property
    def figures(self) -> dict[str, float]:
        """The means since the last flush; right after one, those that it told."""
        return self._meter.figures

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must know, as plain data."""
        return {"meter": self._meter.state(), "guard": self._guard.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self._meter.restore(state["meter"])
        self._guard.restore(state["guard"])


def samples_at_a_time(section: Train) -> int:
    """Return how many samples go through the policy at once."""
    return section.batch.per_device or section.batch.total // Ranks.here().world_size


def _machine(section: Train, sample_flops: float | None) -> Machine:
    device = usable_device(getattr(section.engine, "device", "auto"), setting="train.engine.device")
    precision = getattr(section.engine, "precision", "fp32")
    peak = peak_flops(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None
    known = sample_flops is not None and peak is not None
    return Machine(device=device, utilisation=sample_flops / peak if known else None)  # type: ignore[operator]
