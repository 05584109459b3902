"""How the numbers are distributed, one chart per dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from openvla_toolkit.core.pages.charts import histogram
from openvla_toolkit.pipeline.data_card.measures import Measure, blocks

__all__ = ["Distribution", "distributions"]

BINS = 48
WIDE = 20.0
"""Stretch above which a chart shows what lies around the quantiles, and counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One chart."""

    measure: Measure
    svg: Markup
    outside: int
    """Frames that the chart has no room for."""


def distributions(values: NDArray[np.float32], measures: list[Measure]) -> list[Distribution]:
    """Draw every dimension of [frames, dimensions] that changes."""
    return [
        _drawn(values[:, number], measure) for number, measure in enumerate(measures) if not measure.constant
    ]


def _drawn(values: NDArray[np.float32], measure: Measure) -> Distribution:
    low, high = measure.min, measure.max
    spread = measure.q99 - measure.q01
    if WIDE < measure.stretch < float("inf"):
        low, high = max(low, measure.q01 - spread), min(high, measure.q99 + spread)
    edges = np.linspace(low, high, BINS + 1)
    counts = sum((np.histogram(block, edges)[0] for block in blocks(values)), start=np.zeros(BINS, np.int64))
    svg = histogram(
        edges.tolist(),
        {"frames": counts.tolist()},
        title=f"{measure.vector} {measure.name}: share of frames; 1 % and 99 % quantiles marked",
        marks=(measure.q01, measure.q99),
    )
    return Distribution(measure=measure, svg=svg, outside=len(values) - int(counts.sum()))
