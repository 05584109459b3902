from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.evaluators.intervals import Rate, wilson


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(1, 5000))
    return draw(st.integers(0, trials)), trials


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (87, 100, (0.7902, 0.9224)),
        (19, 20, (0.7639, 0.9911)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_known_values(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson(successes, trials) == pytest.approx(expected, abs=1e-4)


@given(counts())
def test_the_interval_holds_the_share_and_lies_in_the_unit_interval(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high


@given(counts())
def test_failures_mirror_successes(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson(successes, trials)
    mirrored = wilson(trials - successes, trials)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@given(counts(), st.floats(0.5, 0.9))
def test_more_confidence_is_wider_and_more_trials_are_narrower(
    case: tuple[int, int], confidence: float
) -> None:
    successes, trials = case
    low, high = wilson(successes, trials, confidence=confidence)
    wide_low, wide_high = wilson(successes, trials, confidence=0.99)
    assert wide_low <= low
    assert high <= wide_high
    more_low, more_high = wilson(successes * 10, trials * 10, confidence=confidence)
    assert more_high - more_low < high - low


@given(counts())
def test_the_ends_are_where_the_score_test_is_at_its_critical_value(case: tuple[int, int]) -> None:
    successes, trials = case
    share = successes / trials
    for end in wilson(successes, trials):
        if 0 < end < 1:
            score = abs(share - end) / (end * (1 - end) / trials) ** 0.5
            assert score == pytest.approx(1.959964, rel=1e-5)


def test_no_trials_tell_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Rate.of([]).rate == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 5)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson(successes, trials)


def test_a_rate_is_written_for_people() -> None:
    assert f"{Rate.of([True] * 87 + [False] * 13)}" == "87.0 % [79.0, 92.2]"
    assert f"{Rate.of([True] * 3 + [False] * 97):5}" == "  3.0 % [1.0, 8.5]"
