"""The JSON Schema of a recipe, with what is installed; editors complete and check recipes with it."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from openvla_toolkit.core.component import bare_name
from openvla_toolkit.core.contract import DIALECTS, by_dialect
from openvla_toolkit.core.describe import field_docs
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import ByName

__all__ = ["recipe_schema"]


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``Recipe``, joined from all installed components.

    A component that cannot be loaded is left out; ``openvla doctor`` names it.
    """
    schema = Recipe.model_json_schema(schema_generator=_Joined, by_alias=True)
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe, merged under this one: a path relative to it, or PACKAGE:path.",
    }
    schema["properties"]["lock"] = {"type": "object", "description": "The record of a lock file; not read."}
    # what `extends` brings need not be repeated
    schema["required"] = [name for name in schema.get("required", []) if name != "output"]
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "OpenVLA recipe"}


class _Joined(GenerateJsonSchema):
    """Puts the installed components where a component is chosen by name, and its text at every field."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        described = super().model_schema(schema)
        for name, text in field_docs(schema["cls"]).items():
            if text:
                described["properties"][name]["description"] = text
        return described

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        function = schema["function"]["function"]
        if isinstance(function, ByName):
            return self._component(function)
        inner = super().function_before_schema(schema)
        if function is bare_name:
            return {"anyOf": [{"type": "string", "enum": self._names(schema["schema"])}, inner]}
        if function is by_dialect:
            return {"anyOf": [{"type": "string", "enum": list(DIALECTS)}, inner]}
        return inner

    def _component(self, choice: ByName) -> JsonSchemaValue:
        """Return a bare name (of a component without required settings) or one of the installed configs."""
        options: list[JsonSchemaValue] = []
        bare: list[str] = []
        for name in sorted(choice.installed()):
            try:
                config = choice.load(name)
            except UserError:
                continue
            options.append(self._named(config, optional=name == choice.default))
            if not any(field.is_required() for field in config.model_fields.values()):
                bare.append(name)
        names = [{"type": "string", "enum": bare}] if bare else []
        return {"oneOf": [*names, *options]} if names or options else {"type": ["string", "object"]}

    def _named(self, config: Any, *, optional: bool) -> JsonSchemaValue:
        reference: JsonSchemaValue = self.generate_inner(config.__pydantic_core_schema__)
        if optional:
            return reference
        return {"allOf": [reference], "required": ["name"]}

    def _names(self, schema: Any) -> list[str]:
        while "cls" not in schema:
            schema = schema["schema"]
        return list(get_args(schema["cls"].model_fields["name"].annotation))
