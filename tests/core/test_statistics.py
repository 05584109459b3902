"""Which statistics scale an action."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.statistics import Moments, Statistics, select_statistics


def of_width(width: int) -> Statistics:
    ones = np.ones(width)
    moments = Moments(mean=ones, std=ones, max=ones, min=-ones, q01=-ones, q99=ones, mask=ones > 0)
    return Statistics(action=moments, proprio=None, num_transitions=5, num_trajectories=1)


def test_the_only_entry_needs_no_name() -> None:
    known = {"one": of_width(7)}
    assert select_statistics(known, None) is select_statistics(known, "one") is known["one"]


def test_the_choice_is_listed_with_dimensions() -> None:
    known = {"one": of_width(7), "two": of_width(2)}
    for key, message in ((None, "unnorm_key is needed"), ("three", "no statistics named 'three'")):
        with pytest.raises(ContractMismatch, match=message) as caught:
            select_statistics(known, key)
        assert "one (7-D action, 5 frames); two (2-D action, 5 frames)" in str(caught.value)


def test_a_model_that_never_acted_says_so() -> None:
    with pytest.raises(ContractMismatch, match="never trained to act"):
        select_statistics({}, "bridge_orig")


ENTRY = {name: [0.0, 1.0] for name in ("mean", "std", "max", "min", "q01", "q99")}


def test_the_originals_form_is_read_with_and_without_a_mask() -> None:
    assert Moments.from_json(ENTRY, place="toy").mask.tolist() == [True, True]
    masked = Moments.from_json({**ENTRY, "mask": [True, False]}, place="toy")
    assert masked.mask.tolist() == [True, False]
    assert Moments.from_json(masked.to_json(), place="toy").to_json() == masked.to_json()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("q01", [0.0], "has 1 entries; 'mean' has 2"),
        ("q99", [0.0, float("nan")], "a list of finite numbers is expected"),
        ("std", [float("inf"), 1.0], "a list of finite numbers is expected"),
        ("max", ["a", "b"], "a list of numbers is expected"),
        ("min", [[0.0, 1.0]], "a list of finite numbers is expected"),
        ("mean", 0.5, "a list of finite numbers is expected"),
        ("mask", [True], "has 1 entries; 'mean' has 2"),
        ("mask", [1, 0], "a list of true and false is expected"),
        ("mask", None, "a list of true and false is expected"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"^'toy\.action\.{field}': .*{message}"):
        Statistics.from_json({"action": {**ENTRY, field: value}}, place="toy")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([1], "'toy': the statistics have no 'action' entry"),
        ({"action": [1]}, r"'toy\.action': the statistics are \[1\]; mean"),
        ({"action": ENTRY, "num_transitions": "many"}, r"'toy\.num_transitions': is 'many'; a whole number"),
    ],
)
def test_an_entry_of_another_kind_is_named(entry: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Statistics.from_json(entry, place="toy")
