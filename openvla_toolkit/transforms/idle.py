"""Frames in which nothing moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openvla_toolkit.interfaces.transform import KEEP, Trajectory

__all__ = ["SkipIdle"]


@dataclass(frozen=True, slots=True)
class SkipIdle:
    """Says from which frames samples are made; frames that were dropped before stay dropped."""

    threshold: tuple[float, ...]
    """Per number of the action, from the first on."""

    def __call__(self, trajectory: Trajectory) -> Trajectory:
        """Keep the frames whose action exceeds a threshold.

        Raises:
            ValueError: the action has fewer numbers than there are thresholds.
        """
        action = trajectory["action"]
        if action.shape[1] < len(self.threshold):
            raise ValueError(
                f"skip-idle has {len(self.threshold)} thresholds, the action {action.shape[1]} numbers."
            )
        moving = (np.abs(action[:, : len(self.threshold)]) > np.asarray(self.threshold)).any(axis=1)
        return {**trajectory, KEEP: moving & trajectory.get(KEEP, True)}
