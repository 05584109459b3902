"""The standardisations of Open X-Embodiment as one component."""

from __future__ import annotations

import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.registry import load
from openvla_toolkit.transforms import OpenXConfig


def test_the_component_builds_the_standardisation_of_its_data_set() -> None:
    config = load("transform", "open-x").model_validate({"dataset": "libero_10_no_noops"})
    assert config.build().__name__ == "libero"


def test_an_unknown_data_set_is_named_with_the_nearest_known() -> None:
    with pytest.raises(
        RecipeError, match=r"standardisation for 'bridge_orgi'\. Did you mean 'bridge_orig'\?"
    ):
        OpenXConfig(dataset="bridge_orgi").build()
