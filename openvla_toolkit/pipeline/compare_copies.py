"""Compare an episode with its copy in another data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.places import picture_errors
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.dataset import Dataset

__all__ = ["Difference", "compare_episode"]

TOLERANCE = 16.0
"""Mean absolute difference of a picture, of 255, above which a lossy copy is taken for another picture."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far pictures differ from their copies."""

    pictures: int = 0
    same: int = 0
    """Pictures whose pixels are the same."""
    mean: float = 0.0
    """Mean absolute difference, of 255."""
    worst: float = 0.0
    """The largest of the pictures' means."""

    def merged(self, other: Difference) -> Difference:
        """Return both as one."""
        total = self.pictures + other.pictures
        mean = (self.mean * self.pictures + other.mean * other.pictures) / total if total else 0.0
        return Difference(total, self.same + other.same, mean, max(self.worst, other.worst))


def compare_episode(source: Dataset[Episode], copy: Dataset[Episode], position: int) -> Difference:
    """Compare all numbers and texts, and the first, middle and last picture of every camera.

    Raises:
        DataError: the copy differs; names what and where.
    """
    left, right = source[position], copy[position]
    pairs = (("action", left.actions, right.actions), ("observation.state", left.states, right.states))
    for key, one, other in pairs:
        if not _same(one, other):
            raise DataError("the copy has other numbers.", episode=left.name, key=key)
    if list(left.instructions) != list(right.instructions):
        raise DataError("the copy has other instructions.", episode=left.name, key="task")
    if not np.array_equal(_kept(left), _kept(right)):
        raise DataError("the copy keeps other frames.", episode=left.name, key="keep")
    found = Difference()
    for camera in left.images:
        for frame in sorted({0, len(left) // 2, len(left) - 1}):
            with picture_errors(source, left, camera, frame):
                recorded = decode(source.image(left.images[camera][frame]))
            with picture_errors(copy, right, camera, frame):
                copied = decode(copy.image(right.images[camera][frame]))
            off = _distance(recorded, copied)
            if off > TOLERANCE:
                raise DataError(
                    f"the copy shows another picture (mean difference {off:.1f} of 255).",
                    episode=left.name,
                    frame=frame,
                    key=f"observation.images.{camera}",
                )
            found = found.merged(Difference(1, int(off == 0), off, off))
    return found


def _kept(episode: Episode) -> NDArray[np.bool_]:
    return np.ones(len(episode), dtype=bool) if episode.keep is None else episode.keep


def _same(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.shape != other.shape:
        return 255.0
    return float(np.abs(one.astype(np.int16) - other).mean())
