"""Shares and lengths of mixtures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.pipeline.mixture import epoch_length, shares

MEMBERS = st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 10**6)), min_size=1, max_size=5)


@given(members=MEMBERS, balance=st.booleans())
def test_shares_add_up_to_one_and_follow_the_weights(members: list[tuple[float, int]], balance: bool) -> None:
    weights, sizes = [weight for weight, _ in members], [size for _, size in members]
    found = shares(weights, sizes, balance=balance)
    assert sum(found) == pytest.approx(1)
    scale = weights[0] * sizes[0] if balance else weights[0]
    for share, weight, size in zip(found, weights, sizes, strict=True):
        assert share / found[0] == pytest.approx((weight * size if balance else weight) / scale)


def test_where_no_weight_is_one_the_largest_counts() -> None:
    assert epoch_length([0.5, 0.25], [10, 90], balance=False) == 15
