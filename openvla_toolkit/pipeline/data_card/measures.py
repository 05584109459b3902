"""What is measured of the numbers: one record per dimension of actions and states.

Legend of shapes: F frames, D dimensions, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.statistics import Moments

__all__ = ["Measure", "blocks", "measured"]

FAR = 5.0
"""Standard deviations from the mean beyond which a number is an outlier."""
_FRAMES = 1 << 16
"""Frames that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One dimension over all frames."""

    vector: str
    """``action`` or ``state``."""
    name: str
    unit: str
    gripper: bool
    min: float
    max: float
    mean: float
    std: float
    q01: float
    q99: float
    saturated: float
    """Share of frames that repeat the very smallest or largest value."""
    outliers: int
    """Frames beyond five standard deviations."""

    @property
    def constant(self) -> bool:
        """Whether every frame has the same value."""
        return self.min == self.max

    @property
    def stretch(self) -> float:
        """How many times the range from end to end is the one between the quantiles."""
        spread = self.q99 - self.q01
        return (self.max - self.min) / spread if spread > 0 else (1.0 if self.constant else np.inf)


def measured(
    vector: str, values: NDArray[np.float32], moments: Moments, dimensions: Sequence[Dimension]
) -> list[Measure]:
    """Count in values [F, D] what their moments do not tell; where the robot names no number, it gets one."""
    width = values.shape[1]
    at_end, far = np.zeros(width, np.int64), np.zeros(width, np.int64)
    for block in blocks(values):
        at_end += ((block == moments.min) | (block == moments.max)).sum(axis=0)
        far += (np.abs(block - moments.mean) > FAR * moments.std).sum(axis=0)
    named = list(dimensions) if len(dimensions) == width else [None] * width
    return [
        Measure(
            vector=vector,
            name=f"{number}" if known is None else known.name,
            unit="1" if known is None else known.unit,
            gripper=known is not None and known.gripper is not None,
            min=float(moments.min[number]),
            max=float(moments.max[number]),
            mean=float(moments.mean[number]),
            std=float(moments.std[number]),
            q01=float(moments.q01[number]),
            q99=float(moments.q99[number]),
            saturated=max(0, int(at_end[number]) - 2) / len(values),
            outliers=int(far[number]) if moments.min[number] < moments.max[number] else 0,
        )
        for number, known in enumerate(named)
    ]


def blocks(values: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    """Yield rows as float64, some at a time, so that memory does not grow with the data."""
    for first in range(0, len(values), _FRAMES):
        yield values[first : first + _FRAMES].astype(np.float64)
