"""Which sample comes when: a pure function of (seed, number), the same for any workers and ranks.

Samples of a run are numbered. Sample ``n`` belongs to step ``n // batch``; rank ``r`` of ``w`` takes the
``r``-th of ``w`` equal parts of every batch. To go on from step ``s`` is therefore to go on from one integer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from openvla_toolkit.core.data_sections import Shuffle
from openvla_toolkit.pipeline.orders import BlockOrder, GlobalOrder

__all__ = ["MixtureSampler", "Pick", "Source", "micro_batches"]

_BLOCK = 1024


class Source(NamedTuple):
    """One member of a mixture as the sampler sees it."""

    size: int
    """Frames (or conversations)."""
    weight: float


class Pick(NamedTuple):
    """One sample: which source, and which of its frames."""

    source: int
    position: int


class MixtureSampler:
    """A shuffled, weighted, endless stream over several sources.

    Every block of 1024 samples (more when a share is very small) holds each source in proportion to its
    weight, in an order of its own; what a share leaves over is carried to the next block, so that after any
    number of blocks no source is a whole sample off. Within a source no frame comes twice before all have
    come once.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int, shuffle: Shuffle | None = None) -> None:
        """Raise ValueError for no sources, an empty one or a weight that is not positive."""
        if not sources or any(source.size < 1 or source.weight <= 0 for source in sources):
            raise ValueError(
                f"a mixture needs sources with frames and positive weights, not {list(sources)}."
            )
        self._seed = seed
        self.orders = [
            _order(source.size, (seed, number), shuffle or Shuffle()) for number, source in enumerate(sources)
        ]
        """In which order each source's samples come."""
        weights = [Fraction(source.weight) for source in sources]
        whole = sum(weights)
        self._edges = [edge / whole for edge in accumulate(weights, initial=Fraction(0))]
        self.block = max(_BLOCK, math.ceil(2 * whole / min(weights)))
        """Samples that are put in order together: every source comes at least once, and its share is off by
        less than two samples."""
        self._arranged = lru_cache(maxsize=4)(self._arrange)

    def pick(self, number: int) -> Pick:
        """Return sample ``number`` (counted from 0) of the run."""
        block, slot = divmod(number, self.block)
        members, positions, _ = self._arranged(block)
        return Pick(members[slot], positions[slot])

    def visit(self, number: int) -> int:
        """Return how often the source of sample ``number`` was drawn from before it."""
        block, slot = divmod(number, self.block)
        return self._arranged(block)[2][slot]

    def _arrange(self, block: int) -> tuple[list[int], list[int], list[int]]:
        """Return source, position and visit of every sample of a block; singly they would cost far more."""
        generator = np.random.default_rng((self._seed, block))
        before, after = self._visits(block * self.block), self._visits((block + 1) * self.block)
        counts = np.subtract(after, before)
        members = generator.permutation(np.repeat(np.arange(len(counts)), counts))
        positions, visits = np.empty_like(members), np.empty_like(members)
        for source, (start, stop) in enumerate(zip(before, after, strict=True)):
            here = members == source
            positions[here] = self.orders[source].positions(start, stop)
            visits[here] = np.arange(start, stop)
        return members.tolist(), positions.tolist(), visits.tolist()

    def _visits(self, samples: int) -> list[int]:
        """Return how many of the first ``samples``, a whole number of blocks, are of each source.

        The shares, laid end to end, are rounded where they meet: so the numbers add up to ``samples`` and
        each is less than one off. Fractions keep that exact, however long the run.
        """
        met = [math.floor(samples * edge + Fraction(1, 2)) for edge in self._edges]
        return [end - start for start, end in pairwise(met)]

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_arranged"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._arranged = lru_cache(maxsize=4)(self._arrange)


def micro_batches(
    *, start: int, stop: int, total: int, per_device: int, rank: int = 0, world_size: int = 1
) -> Iterator[list[int]]:
    """Yield the sample numbers of one rank's micro-batches for steps ``start`` to ``stop``.

    Raises:
        ValueError: ``total`` is not a multiple of ``per_device x world_size``.
    """
    if total % (per_device * world_size):
        raise ValueError(f"batch {total} does not divide into {world_size} x {per_device}.")
    share = total // world_size
    for step in range(start, stop):
        first = step * total + rank * share
        for offset in range(0, share, per_device):
            yield list(range(first + offset, first + offset + per_device))


def _order(size: int, key: tuple[int, int], shuffle: Shuffle) -> GlobalOrder | BlockOrder:
    if shuffle.name == "global":
        return GlobalOrder(size, key)
    return BlockOrder(size, key, block=shuffle.block, window=shuffle.window)
