"""The keyed shuffle is a bijection for every size and key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvla_toolkit.pipeline.permutation import permute

KEYS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3)


@given(size=st.integers(1, 5000), key=KEYS)
@settings(max_examples=40, deadline=None)
def test_every_place_is_taken_once(size: int, key: list[int]) -> None:
    places = permute(np.arange(size), size=size, key=key)
    assert np.array_equal(np.sort(places), np.arange(size))


@given(size=st.integers(1, 2**40), key=KEYS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_positions_of_large_shuffles_stay_apart_and_inside(
    size: int, key: list[int], data: st.DataObject
) -> None:
    position = st.integers(0, size - 1)
    chosen = data.draw(st.lists(position, min_size=1, max_size=50, unique=True))
    places = permute(np.array(chosen), size=size, key=key)
    assert len(set(places.tolist())) == len(chosen)
    assert places.min() >= 0
    assert places.max() < size


@given(size=st.integers(1, 3000), key=KEYS, start=st.integers(0, 2999))
@settings(max_examples=40, deadline=None)
def test_a_place_does_not_depend_on_what_is_asked_beside_it(size: int, key: list[int], start: int) -> None:
    position = start % size
    alone = permute(np.array([position]), size=size, key=key)
    assert alone[0] == permute(np.arange(size), size=size, key=key)[position]


@given(size=st.integers(1, 40), key=KEYS, start=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_epochs_are_shuffles_of_their_own(size: int, key: list[int], start: int) -> None:
    epochs, turns = np.divmod(np.arange(start, start + 100), size)
    places = permute(turns, size=size, key=key, epochs=epochs)
    for epoch in np.unique(epochs):
        alone = permute(turns[epochs == epoch], size=size, key=(*key, int(epoch)))
        np.testing.assert_array_equal(places[epochs == epoch], alone)


def test_another_key_is_another_shuffle() -> None:
    shuffles = {tuple(permute(np.arange(64), size=64, key=(7, 0, epoch)).tolist()) for epoch in range(200)}
    assert len(shuffles) == 200


def test_the_shuffle_is_even() -> None:
    """Every position lands in every tenth of the range about equally often (4 standard deviations)."""
    keys = 2000
    places = np.array([permute(np.array([0, 1, 499, 999]), size=1000, key=(key,)) for key in range(keys)])
    for column in places.T:
        counts = np.bincount(column // 100, minlength=10)
        assert np.abs(counts - keys / 10).max() < 4 * np.sqrt(keys * 0.1 * 0.9)


def test_the_shuffle_is_frozen() -> None:
    """Runs resume across versions: these numbers may never change."""
    assert permute(np.arange(8), size=8, key=(7, 0, 0)).tolist() == [3, 4, 1, 0, 2, 7, 6, 5]


@pytest.mark.parametrize(("positions", "size"), [([0], 0), ([5], 5), ([2**40], 7)])
def test_what_is_outside_is_refused(positions: list[int], size: int) -> None:
    with pytest.raises(ValueError, match=r"cannot shuffle|is outside a shuffle"):
        permute(np.array(positions), size=size, key=(1,))
