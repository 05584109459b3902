"""Statistics as LeRobot stores them: per column and per picture channel.

Legend of shapes: T frames, N numbers of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PixelCounts", "column_statistics", "sampled_frames"]

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
THIN_FROM, THIN_TO = 300, 150
"""Pictures with a side of 300 or more are thinned out to sides of about 150 (LeRobot's numbers)."""


def column_statistics(values: NDArray[Any]) -> dict[str, list[float]]:
    """Return exact statistics of [T, N] or [T] values, N numbers each."""
    array = values.reshape(len(values), -1).astype(np.float64)
    found = {
        "min": array.min(axis=0),
        "max": array.max(axis=0),
        "mean": array.mean(axis=0),
        "std": array.std(axis=0),
        **{name: np.quantile(array, share, axis=0) for name, share in QUANTILES.items()},
    }
    return {name: value.tolist() for name, value in found.items()} | {"count": [len(array)]}


def sampled_frames(length: int) -> NDArray[np.int64]:
    """Return the frames of an episode that picture statistics look at: T^0.75 of them, 100 to 10,000."""
    count = min(length, max(100, min(int(length**0.75), 10_000)))
    return np.round(np.linspace(0, length - 1, count)).astype(np.int64)


class PixelCounts:
    """How often each of 256 values stands in each channel; everything else follows, exactly."""

    def __init__(self, counts: Any = None, *, frames: int = 0) -> None:
        self.counts: NDArray[np.int64] = (
            np.zeros((3, 256), np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
        )
        self.frames = frames

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Count one picture, RGB [height, width, 3]."""
        side = max(pixels.shape[:2])
        stride = int(side / THIN_TO) if side >= THIN_FROM else 1
        thin = pixels[::stride, ::stride]
        for channel in range(3):
            self.counts[channel] += np.bincount(thin[..., channel].reshape(-1), minlength=256)
        self.frames += 1

    def merge(self, other: PixelCounts) -> None:
        """Take another's counts in."""
        self.counts += other.counts
        self.frames += other.frames

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` takes."""
        return {"counts": self.counts.tolist(), "frames": self.frames}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PixelCounts:
        """Return the counts that ``to_json`` gave."""
        return cls(content["counts"], frames=int(content["frames"]))

    def statistics(self) -> dict[str, Any]:
        """Return statistics of values in [0, 1], each of the shape (3, 1, 1); ``count`` is in frames."""
        levels = np.arange(256) / 255
        share = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        mean = share @ levels
        below = np.cumsum(share, axis=1)
        found = {
            "min": levels[(self.counts > 0).argmax(axis=1)],
            "max": levels[255 - (self.counts[:, ::-1] > 0).argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0)),
            **{name: levels[(below >= at - 1e-12).argmax(axis=1)] for name, at in QUANTILES.items()},
        }
        return {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()} | {
            "count": [self.frames]
        }
