"""The registered models and configurations of the original are in the catalog, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from openvla_toolkit.catalog.models import vla_configuration, vlm_configuration
from tests.conformance import kit

REGISTERED: dict[str, dict[str, Any]] = kit.recorded("training/registered_configs.json") or {}


MENDED = {("prism-siglip+13b", "vision_backbone_id"): "clip-vit-l-336px"}
"""Field -> the original's mistake, which the catalog does not repeat (docs/compatibility.md)."""


def known(stated: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only names the class of settings in the original's command line."""
    return {key: value for key, value in stated.items() if key != "type"}


@pytest.mark.parametrize("name", sorted(REGISTERED.get("vla", {})))
def test_a_configuration_of_policies(name: str) -> None:
    assert vla_configuration(name) == known(REGISTERED["vla"][name])


@pytest.mark.parametrize("name", sorted(REGISTERED.get("model", {})))
def test_a_vision_language_model(name: str) -> None:
    stated = known(REGISTERED["model"][name])
    wrong = {field for (model, field), value in MENDED.items() if model == name and stated[field] == value}
    ours = vlm_configuration(name)
    assert ours.keys() == stated.keys()
    assert {field for field in stated if ours[field] != stated[field]} == wrong
