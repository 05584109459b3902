"""The learning rate of a step, as a pure function: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from openvla_toolkit.core.sections import Schedule, Train

__all__ = ["learning_rate", "steps_of", "warmup_steps"]


def learning_rate(step: int, *, peak: float, steps: int, schedule: Schedule) -> float:
    """Return the rate with which step ``step`` (counted from 0) of ``steps`` is taken.

    Warm-up is linear from 0 at step 0. These are transformers' schedules, which the original uses, also past
    the end, where a cosine comes back up.
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return peak * step / warmup
    return peak * (schedule.floor + (1 - schedule.floor) * _shape(step, steps, warmup, schedule))


def steps_of(section: Train, samples: int) -> int:
    """Return the optimizer steps of a run on data of so many samples.

    The last batch of an epoch is filled up, so that epochs are whole batches, as under the original's FSDP.
    """
    if section.epochs is None:
        return section.steps
    return max(1, int(math.ceil(samples / section.batch.total) * section.epochs))


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Return the steps of the warm-up of a run of ``steps``; a share is rounded down, as originally."""
    return schedule.warmup if isinstance(schedule.warmup, int) else int(steps * schedule.warmup)


def _shape(step: int, steps: int, warmup: int, schedule: Schedule) -> float:
    """Return where between the floor (0) and the peak (1) the rate is after the warm-up."""
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "wsd":
        assert schedule.decay is not None
        return min(1.0, max(0.0, (steps - step) / schedule.decay))
    progress = (step - warmup) / max(1, steps - warmup)
    return max(0.0, 1 - progress) if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
