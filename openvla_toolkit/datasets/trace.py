"""What each transform leaves of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.datasets.rlds.trajectory import leaves, length_of
from openvla_toolkit.interfaces.transform import KEEP, Passed, Trajectory, TransformConfig

__all__ = ["trace", "transformed"]


def transformed(
    trajectory: Trajectory,
    transforms: Sequence[Callable[[Trajectory], Trajectory]],
    settings: Sequence[TransformConfig],
) -> Trajectory:
    """Apply the transforms.

    Raises:
        DataError: they leave no frame of an episode that has some; names the one that does not.
    """
    result = trajectory
    for transform in transforms:
        result = transform(result)
    if not any(len(array) for _, array in leaves(result)):
        recorded, *passed = trace(trajectory, transforms, settings)
        for after in passed:
            if recorded.frames and not after.frames:
                raise DataError(
                    f"it was recorded with {recorded.frames} frames, of which the transform "
                    f"'{after.transform['name']}' left 0. Leave out the transform, or such episodes with "
                    "on_error: skip."
                )
    return result


def trace(
    trajectory: Trajectory,
    transforms: Sequence[Callable[[Trajectory], Trajectory]],
    settings: Sequence[TransformConfig],
) -> list[Passed]:
    """Apply the transforms one by one and count."""
    passed = [_counted({}, trajectory)]
    for transform, config in zip(transforms, settings, strict=True):
        trajectory = transform(trajectory)
        told = config.model_dump(mode="json", exclude_defaults=True)
        passed.append(_counted({"name": config.name, **told}, trajectory))
    return passed


def _counted(transform: Mapping[str, Any], trajectory: Trajectory) -> Passed:
    frames = length_of(trajectory)
    kept = trajectory.get(KEEP)
    return Passed(transform, frames, frames if kept is None else int(np.count_nonzero(kept)))
