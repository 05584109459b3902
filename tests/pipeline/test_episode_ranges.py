"""Ranges of episodes hold every episode once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.pipeline.episode_ranges import LARGEST, SMALLEST, episode_ranges


@given(st.integers(0, 1_000_000))
def test_every_episode_is_in_one(count: int) -> None:
    ranges = episode_ranges(count)
    assert [one.start for one in ranges[1:]] == [one.stop for one in ranges[:-1]]
    assert (ranges[0].start, ranges[-1].stop) == (0, count) if count else ranges == []
    assert all(SMALLEST <= len(one) <= LARGEST for one in ranges[:-1])
