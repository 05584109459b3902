"""Round numbers for axes, and numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["labels", "number", "ticks"]


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return about ``count`` round numbers whose first and last enclose [low, high]."""
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # constant, as far as a chart can tell
        margin = abs(low) * 0.5 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def labels(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Write the numbers of one axis with as many decimals as tell them apart."""
    scaled = [value * 100 for value in values] if percent else list(values)
    largest = max(map(abs, scaled))
    if largest and not percent and (largest < 1e-3 or largest >= 1e6):
        return [_scientific(value) for value in scaled]
    decimals = next(
        (some for some in range(7) if all(abs(round(value, some) - value) < 1e-9 for value in scaled)), 7
    )
    return [
        f"{round(value, 9) + 0.0:,.{decimals}f}".replace(",", "\u2009") + "%" * percent for value in scaled
    ]


def number(value: float) -> str:
    """Write one number with three digits that count."""
    if not math.isfinite(value):
        return "\u2013"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e6):
        return _scientific(value)
    if value == int(value) or size >= 100:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.{2 if size >= 1 else 3}f}"


def _scientific(value: float) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
