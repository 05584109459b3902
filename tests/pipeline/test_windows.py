"""Frames before, actions after, goals ahead: none of them leaves its episode."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.data_sections import Goals
from openvla_toolkit.pipeline.windows import goal_frame, history, padded

EPISODES = st.tuples(st.integers(0, 50), st.integers(1, 30)).flatmap(
    lambda one: st.tuples(st.just(one[0]), st.just(one[0] + one[1]), st.integers(one[0], sum(one) - 1))
)
"""First frame, the one past the last, and a frame between."""
RULES = st.sampled_from([Goals(), Goals(name="last-upweighted"), Goals(name="geometric", discount=0.8)])


@given(length=st.integers(1, 12), more=st.integers(0, 9), width=st.integers(1, 5), data=st.data())
def test_a_robot_stays_as_it_is_past_the_end(length: int, more: int, width: int, data: st.DataObject) -> None:
    absolute = np.array(data.draw(st.lists(st.booleans(), min_size=width, max_size=width)))
    actions = np.random.default_rng(length).normal(size=(length, width)).astype(np.float32)
    before = actions.copy()
    chunk = padded(actions, size=length + more, absolute=absolute)
    np.testing.assert_array_equal(chunk[:length], actions)
    np.testing.assert_array_equal(chunk[length:], np.tile(np.where(absolute, actions[-1], 0), (more, 1)))
    np.testing.assert_array_equal(actions, before)


@given(episode=EPISODES, size=st.integers(1, 12))
def test_a_history_ends_now_and_begins_with_the_episode(episode: tuple[int, int, int], size: int) -> None:
    first, _, frame = episode
    frames, observed = history(frame, first=first, size=size)
    assert frames.tolist() == [max(frame - before, first) for before in reversed(range(size))]
    assert observed.tolist() == [frame - before >= first for before in reversed(range(size))]


@given(episode=EPISODES, rule=RULES, seed=st.integers(0, 9), number=st.integers(0, 2**40))
def test_a_goal_lies_ahead_and_in_the_episode(
    episode: tuple[int, int, int], rule: Goals, seed: int, number: int
) -> None:
    first, stop, frame = episode

    def drawn() -> int:
        return goal_frame(frame, first=first, stop=stop, rule=rule, seed=seed, number=number)

    goal = drawn()
    assert goal == drawn()
    assert goal < stop
    assert goal > frame or goal == frame == stop - 1


def goals(rule: Goals, *, frame: int, stop: int = 5, draws: int = 4000) -> dict[int, float]:
    """Return how often each frame of an episode from 0 on is the goal."""
    counted = Counter(
        goal_frame(frame, first=0, stop=stop, rule=rule, seed=1, number=number) for number in range(draws)
    )
    return {goal: count / draws for goal, count in counted.items()}


def test_uniform_goals_are_any_later_frame() -> None:
    assert goals(Goals(), frame=1) == pytest.approx({2: 1 / 3, 3: 1 / 3, 4: 1 / 3}, abs=0.03)


def test_the_last_frame_comes_more_often_the_later_it_is() -> None:
    rule = Goals(name="last-upweighted")
    assert goals(rule, frame=0) == pytest.approx(dict.fromkeys(range(1, 5), 0.25), abs=0.03)
    assert goals(rule, frame=2) == pytest.approx({3: 0.25, 4: 0.75}, abs=0.03)


def test_geometric_goals_are_near() -> None:
    weights = np.array([1, 0.5, 0.25])
    expected = dict(zip((2, 3, 4), weights / weights.sum(), strict=True))
    assert goals(Goals(name="geometric", discount=0.5), frame=1) == pytest.approx(expected, abs=0.03)
