"""Figures of many vectors in constant memory: counted in parts, anywhere and in any order, and added up.

Order statistics come from the bits of the numbers. The 32 bits of a float, the sign bit flipped in positive
numbers and all bits in negative ones, are a whole number that sorts as the float does. How often each pattern
of the upper 16 occurs says in which *bucket* the number of some rank lies; how often each pattern of the
lower 16 occurs within that bucket says which number it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tally", "count_within", "number_at"]

BUCKETS = 1 << 16
ROWS = 1 << 18
"""Rows counted at a time: a column of them stays in the cache."""
SIGN = np.uint32(1 << 31)


@dataclass(slots=True)
class Tally:
    """What is known of N vectors of D finite float32 numbers; those of parts are merged to that of the whole.

    ``buckets`` is a sketch of the distribution: whole numbers, so that it is the same in whatever parts and
    order the vectors come, in which the number of any rank can be found. Means and squares are added up in
    float64 (Chan).
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    """[D] sums of the squared distances from the mean."""
    min: NDArray[np.float32]
    max: NDArray[np.float32]
    buckets: NDArray[np.int64]
    """[D, 65536]"""

    @classmethod
    def nothing(cls, width: int) -> Tally:
        """Return the tally of no vectors."""
        return cls(
            count=0,
            mean=np.zeros(width),
            squares=np.zeros(width),
            min=np.full(width, np.inf, np.float32),
            max=np.full(width, -np.inf, np.float32),
            buckets=np.zeros((width, BUCKETS), np.int64),
        )

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Tally:
        """Count the rows of [N, D]."""
        tally = cls.nothing(values.shape[1])
        for first in range(0, len(values), ROWS):
            columns = np.ascontiguousarray(values[first : first + ROWS].T)
            exact = columns.astype(np.float64)
            mean = exact.mean(axis=1)
            exact -= mean[:, None]
            squares = np.einsum("dn,dn->d", exact, exact)
            tally._add(columns.shape[1], mean, squares, columns.min(axis=1), columns.max(axis=1))
            for counts, column in zip(tally.buckets, columns, strict=True):
                counts += np.bincount(_ordered(column) >> 16, minlength=BUCKETS)
        return tally

    def merge(self, other: Tally) -> None:
        """Add the vectors of another tally."""
        self._add(other.count, other.mean, other.squares, other.min, other.max)
        self.buckets += other.buckets

    @property
    def std(self) -> NDArray[np.float64]:
        """[D] standard deviations of the population."""
        return np.sqrt(self.squares / self.count)

    def find(self, ranks: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the numbers of R ranks (from 0): return their buckets and their ranks therein, [D, R] each."""
        reached = self.buckets.cumsum(axis=1)
        numbers = np.stack([np.searchsorted(row, ranks, side="right") for row in reached])
        before = np.take_along_axis(reached - self.buckets, numbers, axis=1)
        return numbers, np.asarray(ranks) - before

    def _add(
        self,
        count: int,
        mean: NDArray[np.float64],
        squares: NDArray[np.float64],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        if not count:
            return
        total, apart = self.count + count, mean - self.mean
        self.squares += squares + apart**2 * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total
        self.min, self.max = np.minimum(self.min, low), np.maximum(self.max, high)


def count_within(values: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Count in [N, D] how often each pattern of the lower 16 bits occurs in the buckets [D, R].

    Returns:
        [D, R, 65536], to be added up over all parts.
    """
    counts = np.zeros((*numbers.shape, BUCKETS), np.uint32)
    for first in range(0, len(values), ROWS):
        for column, chosen in enumerate(numbers):
            bits = _ordered(np.ascontiguousarray(values[first : first + ROWS, column]))
            upper = bits >> 16
            for place, number in enumerate(chosen):
                inside = bits[upper == number] & np.uint32(BUCKETS - 1)
                counts[column, place] += np.bincount(inside, minlength=BUCKETS).astype(np.uint32)
    return counts


def number_at(
    numbers: NDArray[np.int64], ranks: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the numbers [D, R] of ranks within buckets, given the sums of ``count_within``."""
    reached = counts.cumsum(axis=-1)
    lower = (reached <= ranks[..., None]).sum(axis=-1)
    return _number(numbers << 16 | lower)


def _ordered(column: NDArray[np.float32]) -> NDArray[np.uint32]:
    bits = column.view(np.uint32)
    negative = (column.view(np.int32) >> 31).view(np.uint32)  # all bits, or none
    ordered: NDArray[np.uint32] = bits ^ (negative | SIGN)
    return ordered


def _number(ordered: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = ordered.astype(np.uint32)
    return np.where(bits & SIGN, bits ^ SIGN, ~bits).view(np.float32)
