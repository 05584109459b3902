"""Which sample comes when: a pure function of (seed, number), the same for any workers and ranks.

Samples of a run are numbered. Sample ``n`` belongs to step ``n // batch``; rank ``r`` of ``w`` takes the
``r``-th of ``w`` equal parts of every batch. To go on from step ``s`` is therefore to go on from one integer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.pipeline.permutation import permute

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
    """A globally shuffled, weighted, endless stream over several sources.

    Every block of 1024 samples (more when a share is very small) holds each source in proportion to its
    weight, in an order of its own; within a source no frame comes twice before all have come once.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int) -> None:
        """Raise ValueError for no sources, an empty one or a weight that is not positive."""
        if not sources or any(source.size < 1 or source.weight <= 0 for source in sources):
            raise ValueError(
                f"a mixture needs sources with frames and positive weights, not {list(sources)}."
            )
        self._sizes = [source.size for source in sources]
        self._seed = seed
        shares = np.array([source.weight for source in sources], dtype=np.float64)
        shares /= shares.sum()
        self.block = max(_BLOCK, int(np.ceil(2 / shares.min())))
        """Samples in which every source has its exact share."""
        self._slots = _apportion(shares, self.block)
        self._arranged = lru_cache(maxsize=4)(self._arrange)

    def pick(self, number: int) -> Pick:
        """Return sample ``number`` (counted from 0) of the run."""
        block, slot = divmod(number, self.block)
        members, positions = self._arranged(block)
        return Pick(members[slot], positions[slot])

    def _arrange(self, block: int) -> tuple[list[int], list[int]]:
        """Return source and position of every sample of a block; one by one they would cost far more."""
        generator = np.random.default_rng((self._seed, block))
        members = generator.permutation(np.repeat(np.arange(len(self._slots)), self._slots))
        positions = np.empty_like(members)
        for source, count in enumerate(self._slots.tolist()):
            positions[members == source] = self._positions(
                source, start=block * count, stop=(block + 1) * count
            )
        return members.tolist(), positions.tolist()

    def _positions(self, source: int, *, start: int, stop: int) -> NDArray[np.int64]:
        """Return the ``start``-th to ``stop``-th frames that are drawn from a source."""
        size = self._sizes[source]
        epochs, turns = np.divmod(np.arange(start, stop), size)
        return permute(turns, size=size, key=(self._seed, source), epochs=epochs)

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


def _apportion(shares: NDArray[np.float64], slots: int) -> NDArray[np.int64]:
    """Split ``slots`` by largest remainder, at least one each."""
    exact = shares * slots
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    order = np.argsort(counts - exact, kind="stable")
    missing = slots - int(counts.sum())
    counts[order[: max(missing, 0)]] += 1
    if missing < 0:
        counts[np.argmax(counts)] += missing
    return counts
