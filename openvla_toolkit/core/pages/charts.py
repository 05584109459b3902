"""Charts as inline SVG: static, styled by the page, readable without hovering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from openvla_toolkit.core.pages.axes import labels, ticks

__all__ = ["Series", "histogram", "line_chart", "smoothed"]

WIDTH, HEIGHT = 440, 196
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 10, 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one curve by ascending x; ``style`` is a CSS class of the page."""

    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "curve"


@dataclass(frozen=True, slots=True)
class _Scale:
    """Numbers to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def smoothed(values: Sequence[float], *, window: int) -> list[float]:
    """Return the mean of each value and those at most ``window`` before and after it; ends have fewer."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    spans = ((max(0, at - window), min(len(values), at + window + 1)) for at in range(len(values)))
    return [(sums[last] - sums[first]) / (last - first) for first, last in spans]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    percent: bool = False,
    from_zero: bool = False,
    x_label: str = "step",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Markup:
    """Draw curves over common axes; an empty list of points draws nothing of its curve.

    What is counted along x (steps, frames) is whole, and so are the marks.

    Args:
        size: width and height in the units of the text, which is 11 high.
    """
    width, height = size
    ys = [y for one in series for y in one.ys]
    xs = [x for one in series for x in one.xs]
    y_ticks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    x_ticks = [tick for tick in ticks(min(xs), max(xs)) if min(xs) <= tick <= max(xs) and tick == int(tick)]
    x = _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, width - RIGHT)
    y = _Scale(y_ticks[0], y_ticks[-1], height - BOTTOM, TOP)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{text}</text>'
        for tick, text in zip(y_ticks, labels(y_ticks, percent=percent), strict=True)
    ]
    parts += [
        f'<text x="{x(tick)}" y="{height - BOTTOM + 16}" text-anchor="middle">{text}</text>'
        for tick, text in (zip(x_ticks, labels(x_ticks), strict=True) if x_ticks else ())
    ]
    parts.append(
        f'<text x="{LEFT - 6}" y="{height - BOTTOM + 16}" text-anchor="end">{escape(x_label)}</text>'
    )
    for one in series:
        points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(one.xs, one.ys, strict=True))
        parts.append(f'<polyline class="{one.style}" points="{points}"/>')
    return _svg("".join(parts), width, height, title)


def histogram(
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    *,
    title: str,
    marks: Sequence[float] = (),
) -> Markup:
    """Draw what share of each source falls into each bin; the first is filled, the others are outlines.

    Args:
        marks: where upright lines are drawn.
    """
    width, height, base, top = 220, 104, 84, 6
    x = _Scale(edges[0], edges[-1], 6, width - 6)
    shares = {name: [count / max(1, sum(values)) for count in values] for name, values in counts.items()}
    peak = max((share for values in shares.values() for share in values), default=0) or 1.0
    y = _Scale(0, peak, base, top)
    parts = [f'<line class="grid" x1="6" x2="{width - 6}" y1="{base}" y2="{base}"/>']
    for number, (name, values) in enumerate(shares.items()):
        steps = [f"{x(edges[0])},{base}"]
        for left, right, share in zip(edges, edges[1:], values, strict=False):
            steps += [f"{x(left)},{y(share)}", f"{x(right)},{y(share)}"]
        steps.append(f"{x(edges[-1])},{base}")
        style = "filled" if number == 0 else "outline"
        parts.append(f'<polyline class="{style} {escape(name)}" points="{" ".join(steps)}"/>')
    parts += [
        f'<line class="mark" x1="{x(mark)}" x2="{x(mark)}" y1="{top}" y2="{base}"/>'
        for mark in marks
        if edges[0] <= mark <= edges[-1]
    ]
    places = [tick for tick in ticks(edges[0], edges[-1], count=3) if edges[0] <= tick <= edges[-1]]
    parts += [
        f'<text x="{x(tick)}" y="{base + 15}" text-anchor="middle">{text}</text>'
        for tick, text in (zip(places, labels(places), strict=True) if places else ())
    ]
    return _svg("".join(parts), width, height, title)


def _svg(content: str, width: int, height: int, title: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{content}</svg>'
    )
