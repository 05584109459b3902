from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from openvla_toolkit.core.schema import recipe_schema

pytestmark = pytest.mark.usefixtures("toys", "alone")


@pytest.fixture
def schema(toys: object, alone: None) -> dict[str, Any]:
    return recipe_schema()


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part or "allOf" in part:
        reference = part["$ref"] if "$ref" in part else part["allOf"][0]["$ref"]
        part = schema["$defs"][reference.rpartition("/")[2]]
    return part


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if "$ref" in part else [])
        for below in part.values():
            yield from references(below)
    elif isinstance(part, list):
        for below in part:
            yield from references(below)


def test_it_is_json_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    assert json.loads(json.dumps(schema)) == schema
    assert {reference.rpartition("/")[2] for reference in references(schema)} <= set(schema["$defs"])


def test_installed_components_are_joined_with_their_bare_names(schema: dict[str, Any]) -> None:
    names, config = schema["properties"]["evaluate"]["items"]["oneOf"]
    assert names == {"type": "string", "enum": ["toy-score"]}
    assert resolved(schema, config)["properties"]["name"]["const"] == "toy-score"
    assert config["required"] == ["name"]


def test_a_component_with_required_settings_has_no_bare_name(schema: dict[str, Any]) -> None:
    (config,) = schema["properties"]["data"]["items"]["oneOf"]
    properties = resolved(schema, config)["properties"]
    assert properties["gripper_open"]["enum"] == ["high", "low"]
    assert properties["gripper_open"]["description"] == "Which value opens."


def test_components_inside_components_are_joined(schema: dict[str, Any]) -> None:
    policy = schema["properties"]["policy"]["anyOf"][0]["oneOf"][1]
    code = resolved(schema, policy)["properties"]["code"]["oneOf"]
    assert code[0] == {"type": "string", "enum": ["toy-code"]}


def test_a_kind_without_components_still_takes_names(schema: dict[str, Any]) -> None:
    assert schema["properties"]["export"]["items"] == {"type": ["string", "object"]}


def test_sections_take_bare_names(schema: dict[str, Any]) -> None:
    train = resolved(schema, schema["properties"]["train"]["anyOf"][0])
    assert train["properties"]["schedule"]["anyOf"][0]["enum"] == ["constant", "linear", "cosine", "wsd"]
    assert "name" not in train["properties"]["engine"]["oneOf"][1].get("required", [])


def test_extends_and_lock_are_known(schema: dict[str, Any]) -> None:
    assert {"extends", "lock", "output"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
