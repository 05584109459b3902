"""A mixture of data sets of any kind."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.mixtures import WeightedConfig
from openvla_toolkit.testing import DotsEpisodesConfig


def test_members_are_what_was_given() -> None:
    members = [DotsEpisodesConfig(), DotsEpisodesConfig(dataset="more", weight=2)]
    assert WeightedConfig(data=members).build() == members


def test_nothing_is_no_mixture() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        WeightedConfig(data=[])


def test_what_is_neither_data_set_nor_mixture_is_named() -> None:
    with pytest.raises(Exception, match=r"no dataset or mixture named 'widowx'"):
        Recipe.from_mapping({"output": "x", "data": ["widowx"]})
