"""The orders within a data set: every epoch a bijection, blocks whole, windows mixed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvla_toolkit.pipeline.orders import BlockOrder, GlobalOrder

ORDERS = st.builds(
    BlockOrder,
    size=st.integers(1, 300),
    key=st.tuples(st.integers(0, 2**32), st.integers(0, 5)),
    block=st.integers(1, 80),
    window=st.integers(1, 9),
)


def windows(order: BlockOrder) -> list[list[set[int]]]:
    """Return the positions of each window of three epochs: blocks count in the order of first appearance."""
    found: list[list[set[int]]] = []
    for epoch in order.positions(0, 3 * order.size).reshape(3, order.size).tolist():
        blocks: dict[int, int] = {}
        numbers = [blocks.setdefault(one // order.block, len(blocks)) // order.window for one in epoch]
        assert numbers == sorted(numbers), "a window is over before the next begins"
        found.append(
            [{p for p, n in zip(epoch, numbers, strict=True) if n == w} for w in range(numbers[-1] + 1)]
        )
    return found


@given(order=ORDERS)
@settings(max_examples=150, deadline=None)
def test_every_position_comes_once_per_epoch(order: BlockOrder) -> None:
    positions = order.positions(0, 4 * order.size).reshape(4, order.size)
    assert np.array_equal(np.sort(positions), np.tile(np.arange(order.size), (4, 1)))


@given(order=ORDERS, start=st.integers(0, 10**9), count=st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_a_position_depends_on_its_visit_alone(order: BlockOrder, start: int, count: int) -> None:
    together = order.positions(start, start + count)
    places = list(range(start, start + count, max(1, count // 7)))
    assert [int(order.positions(one, one + 1)[0]) for one in places] == together[
        :: max(1, count // 7)
    ].tolist()


@given(order=ORDERS)
@settings(max_examples=60, deadline=None)
def test_a_window_holds_whole_blocks_and_no_others(order: BlockOrder) -> None:
    for epoch in windows(order):
        assert len(epoch) == order.windows
        for window in epoch:
            blocks = {position // order.block for position in window}
            assert len(blocks) <= order.window
            assert window == {position for block in blocks for position in order.samples(block)}


@given(order=ORDERS)
@settings(max_examples=60, deadline=None)
def test_all_blocks_of_the_next_window_come_due_before_it_begins(order: BlockOrder) -> None:
    flat = [window for epoch in windows(order) for window in epoch]
    visit = 0
    for window, following in pairwise(flat):
        due = [order.due(visit + turn) for turn in range(len(window))]
        visit += len(window)
        wanted = {position // order.block for position in following}
        assert set(due) <= wanted
        if len(window) >= len(wanted):
            assert set(due) == wanted
            assert len(list(dict.fromkeys(due))) == sum(a != b for a, b in pairwise(due)) + 1


def test_a_window_of_all_blocks_mixes_everything() -> None:
    """In a complete mixture the place of a position says nothing of where it lies."""
    order = BlockOrder(4096, (7, 0), block=64, window=64)
    positions = order.positions(0, 4096)
    assert abs(np.corrcoef(np.arange(4096), positions)[0, 1]) < 0.06
    assert abs(np.corrcoef(positions[:-1], positions[1:])[0, 1]) < 0.06


def test_epochs_windows_and_keys_are_shuffles_of_their_own() -> None:
    order = BlockOrder(6400, (7, 0), block=100, window=8)
    epochs = order.positions(0, 4 * 6400).reshape(4, 8, 800)
    assert len({tuple(epoch.ravel()) for epoch in epochs}) == 4
    assert len({tuple(window // 100) for window in epochs[0]}) == 8
    patterns = {tuple(np.argsort(np.argsort(window))) for window in epochs[0]}
    assert len(patterns) == 8
    others = [BlockOrder(6400, key, block=100, window=8).positions(0, 800) for key in ((8, 0), (7, 1))]
    assert len({tuple(other) for other in [*others, epochs[0, 0]]}) == 3


def test_the_short_block_has_no_place_of_its_own() -> None:
    """Over many epochs the last, short block is visited early as often as late (4 standard deviations)."""
    order = BlockOrder(95, (1, 0), block=10, window=1)
    visits = order.positions(0, 500 * 95).reshape(500, 95)
    places = (visits >= 90).argmax(axis=1) // 10
    counts = np.bincount(places, minlength=10)
    assert np.abs(counts - 50).max() < 4 * np.sqrt(500 * 0.1 * 0.9)


def test_blocks_of_one_and_a_window_of_all_are_as_even_as_the_whole() -> None:
    positions = BlockOrder(1000, (3, 0), block=1, window=1000).positions(0, 1000)
    assert sorted(positions) == list(range(1000))
    assert not np.array_equal(positions, GlobalOrder(1000, (3, 0)).positions(0, 1000))


@pytest.mark.parametrize("size", [10_000_000, 10**12])
def test_any_size_is_answered_at_once(size: int) -> None:
    order = BlockOrder(size, (7, 0), block=1024, window=64)
    positions = order.positions(size - 500, size + 500)
    assert len(np.unique(positions[:500])) == len(np.unique(positions[500:])) == 500
    assert positions.min() >= 0
    assert positions.max() < size


def test_the_order_is_frozen() -> None:
    """Runs resume across versions: these numbers may never change."""
    order = BlockOrder(22, (7, 0), block=4, window=2)
    first, second, third = [17, 19, 0, 2, 16, 1, 3, 18], [9, 11, 8, 20, 21, 10, 14, 13], [12, 15, 4, 7, 6, 5]
    assert order.positions(0, 22).tolist() == [*first, *second, *third]
