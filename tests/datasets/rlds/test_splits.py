"""Split expressions."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.datasets.rlds.splits import Part, select

SIZES = {"train": 21, "val": 4}


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("train", [Part("train", 0, 21)]),
        ("val", [Part("val", 0, 4)]),
        ("all", [Part("train", 0, 21), Part("val", 0, 4)]),
        ("train[:95%]", [Part("train", 0, 20)]),
        ("train[95%:]", [Part("train", 20, 21)]),
        ("train[10:20]", [Part("train", 10, 20)]),
        ("train[-5:]", [Part("train", 16, 21)]),
        ("train[:-20%]", [Part("train", 0, 17)]),
        ("train[5:99]", [Part("train", 5, 21)]),
        ("val[1:2] + train[:1]", [Part("val", 1, 2), Part("train", 0, 1)]),
        ("train[:]", [Part("train", 0, 21)]),
    ],
)
def test_what_an_expression_selects(expression: str, parts: list[Part]) -> None:
    assert select(expression, SIZES) == parts


@given(percent=st.integers(0, 100), size=st.integers(1, 500))
def test_two_parts_at_one_percentage_are_a_whole(percent: int, size: int) -> None:
    found = []
    for expression in (f"train[:{percent}%]", f"train[{percent}%:]"):
        with suppress(RecipeError):  # one of the two may be empty
            found += select(expression, {"train": size})
    assert [position for part in found for position in range(part.start, part.stop)] == list(range(size))


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (
            "valid",
            r"split: there is no split 'valid'. Did you mean 'val'\? There are: train \(21 episodes\), val",
        ),
        ("train[10]", r"'train\[10\]' is not a split. Write train, train\[:95%\]"),
        ("train[a:b]", "is not a split"),
        ("", "is not a split"),
        ("train[7:7]", "selects no episode"),
        ("val[90%:]", "selects no episode"),
    ],
)
def test_a_wrong_expression_says_what_there_is(expression: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        select(expression, SIZES)


def test_where_there_is_one_split_its_division_is_spelled_out() -> None:
    told = (
        r"no split 'val'\. There are: train \(21 episodes\)\. To divide it as OpenVLA does, write "
        r"'split: train\[:95%\]' to train and 'split: train\[95%:\]' to validate\."
    )
    with pytest.raises(RecipeError, match=told):
        select("val", {"train": 21})
    assert [select(part, {"train": 21}) for part in ("train[:95%]", "train[95%:]")] == [
        [Part("train", 0, 20)],
        [Part("train", 20, 21)],
    ]
