"""Histograms of actions, two sources over the same bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from openvla_toolkit.core.contract import Dimension

__all__ = ["action_histograms"]

BINS = 41


def action_histograms(
    dimensions: Sequence[Dimension], sources: Mapping[str, NDArray[np.floating[Any]]]
) -> list[dict[str, Any]]:
    """Count the actions [N, A] of every source; one entry per dimension, with the bins that all share."""
    entries = []
    for index, dimension in enumerate(dimensions):
        columns = {name: np.asarray(actions[:, index], dtype=np.float64) for name, actions in sources.items()}
        together = np.concatenate(list(columns.values()))
        edges = np.linspace(*_range(together), BINS + 1)
        counts = {name: np.histogram(column, edges)[0].tolist() for name, column in columns.items()}
        entries.append(
            {
                "name": dimension.name,
                "unit": dimension.unit,
                "edges": edges.round(6).tolist(),
                "counts": counts,
            }
        )
    return entries


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the bins; a constant gets bins around it."""
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return low - 0.5, high + 0.5
    return low, high
