"""The training curves of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from openvla_toolkit.core.pages.axes import number
from openvla_toolkit.core.pages.charts import Series, line_chart, smoothed

__all__ = ["Curve", "training_curves", "training_seconds"]


POINTS = 600
"""Points of a curve; more could not be told apart."""


class _Plan(NamedTuple):
    title: str
    percent: bool = False
    from_zero: bool = False
    smooth: bool = True


PLANS = {
    "loss": _Plan("Loss"),
    "token_accuracy": _Plan("Action token accuracy", percent=True, from_zero=True),
    "text_accuracy": _Plan("Text token accuracy", percent=True, from_zero=True),
    "l1": _Plan("Action L1 (normalised)", from_zero=True),
    "lr": _Plan("Learning rate", from_zero=True, smooth=False),
    "grad_norm": _Plan("Gradient norm", from_zero=True),
    "samples_per_second": _Plan("Samples per second", from_zero=True, smooth=False),
    "mfu": _Plan("Use of the device's peak (MFU)", percent=True, from_zero=True, smooth=False),
    "data_wait": _Plan("Share of time waiting for data", percent=True, from_zero=True, smooth=False),
}
"""The curves that are drawn, in this order, where there are numbers for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One chart and what it ends with."""

    title: str
    last: str
    svg: Markup


def training_curves(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Draw every known metric that has at least two points."""
    curves = []
    for key, plan in PLANS.items():
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if len(points) > 1:
            thinned = _thinned(points)
            curves.append(_curve(plan, [x for x, _ in thinned], [y for _, y in thinned]))
    return curves


def training_seconds(rows: Sequence[Mapping[str, Any]], *, batch: int) -> float | None:
    """Return the time spent in steps, breaks between resumed parts not counted."""
    seconds, before = 0.0, 0
    for row in rows:
        if row.get("samples_per_second"):
            seconds += (row["step"] - before) * batch / row["samples_per_second"]
        before = row["step"]
    return seconds or None


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most ``POINTS`` points, means of neighbours, so that a long run is still a small page."""
    size = math.ceil(len(points) / POINTS)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _curve(plan: _Plan, xs: Sequence[float], ys: Sequence[float]) -> Curve:
    window = len(ys) // 40 if plan.smooth else 0
    mean = smoothed(ys, window=window)
    series = [Series(xs=xs, ys=mean)]
    if window:
        series.insert(0, Series(xs=xs, ys=ys, style="curve raw"))
    last = f"{100 * ys[-1]:.1f} %" if plan.percent else number(ys[-1])
    svg = line_chart(series, title=plan.title, percent=plan.percent, from_zero=plan.from_zero)
    return Curve(title=plan.title, last=last, svg=svg)
