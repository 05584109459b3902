"""Which statistics scale an action."""

from __future__ import annotations

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch
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
