"""In which order the samples of one data set come: mixed over the whole, or block by block.

Both are pure functions from the number of a visit to a position, in constant memory, and bijections of every
epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.pipeline.permutation import permute

__all__ = ["BlockOrder", "GlobalOrder"]

_BLOCKS, _WINDOW, _SHORT = 1, 2, 3
"""What a key is for; none is zero, since NumPy's seed sequences do not tell a trailing zero from nothing."""


@dataclass(frozen=True)
class GlobalOrder:
    """Any sample can follow any other."""

    size: int
    key: tuple[int, int]
    """Seed and number of the data set."""

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions of visits ``start`` to ``stop``."""
        epochs, turns = np.divmod(np.arange(start, stop), self.size)
        return permute(turns, size=self.size, key=self.key, epochs=epochs)


class _Window(NamedTuple):
    """Blocks that are mixed with each other."""

    epoch: int
    number: int
    """In its epoch."""
    start: int
    """First turn of the epoch that falls into it."""
    length: int
    """Samples."""


@dataclass(frozen=True)
class BlockOrder:
    """Blocks of neighbours in a random order, ``window`` of them at a time mixed completely.

    The last block of the data may be short. It is set at a place of its own among the others, so that all
    other windows are equally long and a visit finds its window by division.
    """

    size: int
    key: tuple[int, int]
    """Seed and number of the data set."""
    block: int
    """Samples of a block."""
    window: int
    """Blocks of a window."""

    @cached_property
    def blocks(self) -> int:
        """Number of blocks, the short one included."""
        return -(-self.size // self.block)

    @property
    def windows(self) -> int:
        """Number of windows of an epoch; the last may have fewer blocks."""
        return -(-self.blocks // self.window)

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions of visits ``start`` to ``stop``."""
        found: list[NDArray[np.int64]] = []
        while start < stop:
            window = self._window(start)
            first = window.epoch * self.size + window.start
            last = min(stop, first + window.length)
            found.append(self._mixed(window, np.arange(start - first, last - first)))
            start = last
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def due(self, visit: int) -> int:
        """Return the block of the next window that should be at hand at this visit.

        The blocks of the next window come due one by one while the samples of the present one are drawn.
        """
        window = self._window(visit)
        last = window.number == self.windows - 1
        epoch, number = (window.epoch + 1, 0) if last else (window.epoch, window.number + 1)
        count = min(self.window, self.blocks - number * self.window)
        passed = visit - window.epoch * self.size - window.start
        return _visited_at(self, epoch, number * self.window + passed * count // window.length)

    def samples(self, block: int) -> range:
        """Return the positions that make up a block."""
        return range(block * self.block, min((block + 1) * self.block, self.size))

    @property
    def _lack(self) -> int:
        """Samples by which the last block of the data is short."""
        return self.blocks * self.block - self.size

    def _short(self, epoch: int) -> int:
        """Return when the last block of the data is visited."""
        return _drawn((*self.key, epoch, _SHORT), self.blocks)

    def _visited(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which blocks are visited at these places of an epoch."""
        short = self._short(epoch)
        found = np.full(len(places), self.blocks - 1)
        others = places != short
        if others.any():
            turns = places[others] - (places[others] > short)
            found[others] = permute(turns, size=self.blocks - 1, key=(*self.key, epoch, _BLOCKS))
        return found

    def _window(self, visit: int) -> _Window:
        epoch, turn = divmod(visit, self.size)
        samples, holder = self.block * self.window, self._short(epoch) // self.window
        behind = turn >= (holder + 1) * samples - self._lack
        number = (turn + self._lack * behind) // samples
        count = min(self.window, self.blocks - number * self.window)
        return _Window(
            epoch=epoch,
            number=number,
            start=number * samples - self._lack * behind,
            length=count * self.block - self._lack * (number == holder),
        )

    def _mixed(self, window: _Window, turns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions that a window's turns (counted within it) are drawn from."""
        key = (*self.key, window.epoch, _WINDOW, window.number)
        drawn = permute(turns, size=window.length, key=key)
        first = window.number * self.window
        # Behind the short block of this window the samples lie as if it were whole.
        gap = (self._short(window.epoch) - first + 1) * self.block - self._lack
        if 0 < gap <= window.length:
            drawn = drawn + self._lack * (drawn >= gap)
        slots, inside = np.divmod(drawn, self.block)
        blocks = self._visited(window.epoch, first + slots)
        positions: NDArray[np.int64] = blocks * self.block + inside
        return positions


@lru_cache(maxsize=1024)
def _drawn(key: Sequence[int], count: int) -> int:
    return int(np.random.default_rng(key).integers(count))


@lru_cache(maxsize=1024)
def _visited_at(order: BlockOrder, epoch: int, place: int) -> int:
    return int(order._visited(epoch, np.array([place]))[0])
