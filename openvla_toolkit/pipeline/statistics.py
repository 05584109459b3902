"""Statistics of a data set from its index; images are never touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["compute_statistics"]


def compute_statistics(index: EpisodeIndex, robot: Interface) -> Statistics:
    """Return mean, population std, extremes and the 1 % and 99 % quantiles (linear, in float64).

    Grippers are masked: their numbers are used as they are (the original's ``action_normalization_mask``).
    """
    grips = np.array([dimension.gripper is not None for dimension in robot.action])
    return Statistics(
        action=_moments(index.actions, mask=~grips),
        proprio=None if index.states is None else _moments(index.states),
        num_transitions=index.frames,
        num_trajectories=index.episodes,
    )


def _moments(values: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> Moments:
    x = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(x, [0.01, 0.99], axis=0)
    return Moments(
        mean=x.mean(0),
        std=x.std(0),
        max=x.max(0),
        min=x.min(0),
        q01=low,
        q99=high,
        mask=np.ones(x.shape[1], dtype=bool) if mask is None else mask,
    )
