"""Tallies of parts make the tally of the whole, and order statistics are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from openvla_toolkit.core import tally as module
from openvla_toolkit.core.tally import Tally, count_within, number_at

Values = NDArray[np.float32]
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
tables = st.integers(1, 40).flatmap(lambda rows: arrays(np.float32, (rows, 2), elements=numbers))
few = settings(max_examples=50, deadline=None)


def at_ranks(values: Values, ranks: list[int]) -> Values:
    """Find the numbers of these ranks by the two passes."""
    buckets, inside = Tally.of(values).find(ranks)
    half = len(values) // 2
    counts = sum(count_within(part, buckets).astype(np.int64) for part in (values[:half], values[half:]))
    assert not isinstance(counts, int)
    return number_at(buckets, inside, counts)


@few
@given(tables)
def test_every_rank_is_found_exactly(values: Values) -> None:
    ranks = list(range(len(values)))
    np.testing.assert_array_equal(at_ranks(values, ranks), np.sort(values, axis=0).T)


@few
@given(st.lists(tables, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_neither_parts_nor_their_order_matter(parts: list[Values], random: object) -> None:
    values = np.concatenate(parts).astype(np.float64)
    values /= max(np.abs(values).max(), 1e-30)  # tolerances are of this size
    scaled = values.astype(np.float32)
    whole, merged = Tally.of(scaled), Tally.nothing(2)
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    shuffled = np.split(scaled, cuts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for part in shuffled:
        merged.merge(Tally.of(part))
    np.testing.assert_array_equal(merged.buckets, whole.buckets)
    for figure in ("count", "min", "max"):
        np.testing.assert_array_equal(getattr(merged, figure), getattr(whole, figure))
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(merged.std, whole.std, rtol=1e-9, atol=1e-9)


def test_it_counts_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    monkeypatch.setattr(module, "ROWS", 64)
    tally, exact = Tally.of(values), values.astype(np.float64)
    np.testing.assert_allclose(tally.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(tally.std, exact.std(0), rtol=1e-12)
    np.testing.assert_array_equal(at_ranks(values, [9, 990]), np.sort(values, axis=0)[[9, 990]].T)


def test_nothing_is_counted_of_nothing() -> None:
    tally = Tally.of(np.empty((0, 2), np.float32))
    assert (tally.count, int(tally.buckets.sum())) == (0, 0)
