"""Into which ranges the episodes of a data set are cut, to be worked on one by one."""

from __future__ import annotations

__all__ = ["episode_ranges"]

PIECES = 64
"""How many there are, unless they become too small or too large."""
SMALLEST, LARGEST = 64, 2048
"""Episodes of a range: fewer are not worth a process, more are too long without a sign of life."""


def episode_ranges(count: int) -> list[range]:
    """Return consecutive ranges that hold ``count`` episodes."""
    size = min(max(-(-count // PIECES), SMALLEST), LARGEST)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]
