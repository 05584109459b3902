"""Equal bins on a fixed range; higher actions have lower ids (OpenVLA, RT-2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import UserError

__all__ = ["UniformBins"]


class UniformBins:
    """``bins`` edges from ``low`` to ``high``; a number is written as the count of edges at or below it.

    The count d in 1..bins becomes id ``vocabulary_size - d``. Only ``high`` itself reaches d = bins; it is
    read back as the centre of the last interval, like d = bins - 1.
    """

    def __init__(self, *, bins: int, low: float, high: float, vocabulary_size: int) -> None:
        if bins > vocabulary_size:
            raise UserError(f"{bins} action bins do not fit into a vocabulary of {vocabulary_size} ids.")
        self.vocabulary_size = vocabulary_size
        self.edges: NDArray[np.float64] = np.linspace(low, high, bins)
        self.centers: NDArray[np.float64] = (self.edges[:-1] + self.edges[1:]) / 2.0

    def encode(self, actions: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Map actions [...] to ids of the same shape; values outside the range are clipped."""
        # Clipping keeps the input's own precision, and float32 is compared with float64 edges, as the
        # original does.
        clipped = np.clip(actions, a_min=float(self.edges[0]), a_max=float(self.edges[-1]))
        ids: NDArray[np.int64] = self.vocabulary_size - np.digitize(clipped, self.edges).astype(np.int64)
        return ids

    def decode(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Map ids [...] to bin centres; ids that stand for no bin give the nearest end of the range."""
        counts = self.vocabulary_size - np.asarray(ids, dtype=np.int64)
        return self.centers[np.clip(counts - 1, 0, len(self.centers) - 1)]

    def ids(self) -> NDArray[np.int64]:
        """Return every id that ``encode`` can give, ascending."""
        return np.arange(self.vocabulary_size - len(self.edges), self.vocabulary_size, dtype=np.int64)
