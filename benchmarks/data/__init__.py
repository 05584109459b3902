"""The data path: loaders, index, statistics, shuffling, each beside a peer; see the README."""

from __future__ import annotations

from benchmarks.data import frames, indexing, lerobot, memory, shuffle
from benchmarks.data.peers import peer_python
from benchmarks.rows import Row

__all__ = ["measure"]

PARTS = (frames, lerobot, indexing, memory, shuffle)


def measure() -> list[Row]:
    """Measure everything; some fifteen minutes.

    Raises:
        RuntimeError: the peers are not installed.
    """
    peer_python()
    return [row for part in PARTS for row in part.measure()]
