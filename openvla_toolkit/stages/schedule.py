"""The learning rate of a step, as a pure function: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from openvla_toolkit.core.sections import Schedule

__all__ = ["learning_rate"]


def learning_rate(step: int, *, peak: float, steps: int, schedule: Schedule) -> float:
    """Return the rate with which step ``step`` (counted from 0) of ``steps`` is taken.

    Warm-up is linear from 0 at step 0, as in transformers' schedules, which the original uses.
    """
    if step < schedule.warmup:
        return peak * step / schedule.warmup
    return peak * (schedule.floor + (1 - schedule.floor) * _shape(step, steps, schedule))


def _shape(step: int, steps: int, schedule: Schedule) -> float:
    """Return where between the floor (0) and the peak (1) the rate is after the warm-up."""
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "wsd":
        assert schedule.decay is not None
        return min(1.0, max(0.0, (steps - step) / schedule.decay))
    progress = min(1.0, (step - schedule.warmup) / max(1, steps - schedule.warmup))
    return 1 - progress if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
