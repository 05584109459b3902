"""A shuffle of any size in constant memory: position in, position out, nothing stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["permute"]

_ROUNDS = 4


def permute(
    positions: NDArray[np.integer],
    *,
    size: int,
    key: Sequence[int],
    epochs: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Map positions in [0, size) to their places in the shuffle of ``size`` items that ``key`` names.

    With ``epochs``, one per position, each position is looked up in the shuffle that ``(*key, epoch)`` names.
    For each key the map is a bijection of [0, size): a balanced Feistel network over the next even power of
    two, walked until the value falls inside (Black and Rogaway 2002, "Ciphers with arbitrary finite
    domains").
    """
    if size <= 0:
        raise ValueError(f"cannot shuffle {size} items.")
    values = positions.astype(np.uint64)
    if values.size and int(values.max()) >= size:
        raise ValueError(f"position {int(values.max())} is outside a shuffle of {size} items.")
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = _keys(key, epochs, count=len(values))
    values = _feistel(values, half, keys)
    outside = values >= np.uint64(size)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys[:, outside])
        outside = values >= np.uint64(size)
    return values.astype(np.int64)


def _keys(key: Sequence[int], epochs: NDArray[np.integer] | None, *, count: int) -> NDArray[np.uint64]:
    """Return the keys of all rounds [rounds, count]."""
    if epochs is None:
        return np.broadcast_to(_round_keys(key)[:, None], (_ROUNDS, count))
    unique, inverse = np.unique(epochs, return_inverse=True)
    keys: NDArray[np.uint64] = np.stack([_round_keys((*key, int(epoch))) for epoch in unique], axis=1)[
        :, inverse
    ]
    return keys


def _round_keys(key: Sequence[int]) -> NDArray[np.uint64]:
    return np.random.SeedSequence(list(key)).generate_state(_ROUNDS, np.uint64).astype(np.uint64)


def _feistel(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    joined: NDArray[np.uint64] = (left << half) | right
    return joined


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
