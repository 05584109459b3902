from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.pages.axes import labels, number, ticks
from openvla_toolkit.core.pages.charts import Series, histogram, line_chart, smoothed

NUMBERS = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(NUMBERS, NUMBERS, st.integers(2, 8))
def test_ticks_enclose_the_range_and_are_few(one: float, other: float, count: int) -> None:
    low, high = sorted((one, other))
    marks = ticks(low, high, count=count)
    step = marks[1] - marks[0]
    assert marks == sorted(marks)
    assert marks[0] <= low + step * 1e-6
    assert marks[-1] >= high - step * 1e-6
    assert 2 <= len(marks) <= count + 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0.0, 3.3, ["0", "1", "2", "3", "4"]),
        (0.0, 4.6e-4, ["0", "2e-4", "4e-4", "6e-4"]),
        (0.0, 4000.0, ["0", "1\u2009000", "2\u2009000", "3\u2009000", "4\u2009000"]),
        (5.0, 5.0, ["2", "4", "6", "8"]),
    ],
)
def test_labels_are_as_short_as_they_can_be(low: float, high: float, expected: list[str]) -> None:
    assert labels(ticks(low, high)) == expected


def test_labels_of_shares() -> None:
    assert labels([0.0, 0.5, 1.0], percent=True) == ["0%", "50%", "100%"]
    assert labels([0.0, 0.025], percent=True) == ["0.0%", "2.5%"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (200, "200"), (120311, "120\u2009311"), (1.234, "1.23"), (0.0123, "0.012"), (2e-5, "2e-5")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.integers(0, 60))
def test_smoothing_keeps_length_and_stays_between_the_extremes(values: list[float], window: int) -> None:
    means = smoothed(values, window=window)
    assert len(means) == len(values)
    assert min(values) - 1e-9 <= min(means)
    assert max(means) <= max(values) + 1e-9
    assert window or means == pytest.approx(values)


def test_a_curve_is_drawn_from_left_to_right_and_up() -> None:
    svg = line_chart([Series(xs=[0, 10], ys=[0.0, 1.0])], title="a < b", from_zero=True)
    points = svg.split('points="')[1].split('"')[0].split()
    (left, low), (right, high) = (tuple(map(float, point.split(","))) for point in points)
    assert left < right
    assert low > high  # SVG counts downwards
    assert 'aria-label="a &lt; b"' in svg


def test_bars_of_a_histogram_are_shares_of_each_source() -> None:
    svg = histogram([0.0, 0.5, 1.0], {"policy": [1, 1], "expert": [30, 30]}, title="x")
    first, second = (part.split('"')[0] for part in svg.split('points="')[1:])
    assert first == second
    assert "filled policy" in svg
    assert "outline expert" in svg


def test_what_is_counted_has_whole_marks_and_any_size() -> None:
    svg = str(line_chart([Series(xs=[0, 1, 2], ys=[0.0, 0.5, 0.25])], title="x", x_label="", size=(200, 90)))
    assert 'viewBox="0 0 200 90"' in svg
    assert [mark for mark in ("0", "1", "2", "0.5", "1.5") if f'middle">{mark}</text>' in svg] == [
        "0",
        "1",
        "2",
    ]


def test_upright_marks_stand_inside_a_histogram() -> None:
    svg = str(histogram([0.0, 1.0, 2.0], {"a": [1, 3]}, title="x", marks=(0.5, 1.0, 7.0)))
    assert svg.count('class="mark"') == 2
    assert 'class="mark"' not in str(histogram([0.0, 1.0], {"a": [1]}, title="x"))
