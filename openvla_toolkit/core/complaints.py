"""From pydantic's errors to ``file:line: path: reason``, with a suggestion where one is near."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from openvla_toolkit.core.errors import RecipeError, RecipeErrors, UserError, did_you_mean
from openvla_toolkit.core.layers import Layered
from openvla_toolkit.core.registry import ByName
from openvla_toolkit.core.yaml_lines import KeyPath

__all__ = ["recipe_error", "validated"]

Model = TypeVar("Model", bound=BaseModel)


def recipe_error(error: ValidationError, recipe: Layered, model: type[BaseModel]) -> RecipeError:
    """Return one error that names every mistake; ``model`` is what ``recipe`` was validated as."""
    reasons: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _address(detail, recipe.data)
        reasons.setdefault(path, []).append(_reason(detail, path, recipe.data, model))
    complaints = [
        recipe.error(path, " Or: ".join(dict.fromkeys(several))) for path, several in reasons.items()
    ]
    complaints.sort(key=lambda one: (one.file or "", one.line or 0))
    return complaints[0] if len(complaints) == 1 else RecipeErrors(complaints)


def validated(model: type[Model], settings: Mapping[str, Any]) -> Model:
    """Return settings that stand in no file as a section; raises ``RecipeError`` that names every mistake."""
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        raise recipe_error(error, Layered(dict(settings), {}), model) from None


def _address(detail: ErrorDetails, data: Any) -> KeyPath:
    """Keep the keys of a pydantic location; drop the tags that unions put between them."""
    path: KeyPath = ()
    location = detail["loc"]
    for position, step in enumerate(location):
        missing = detail["type"] == "missing" and position == len(location) - 1
        if _holds(data, step):
            data = data[step]
        elif not missing:
            continue
        path = (*path, step)
    named = detail["type"] == "component" and _holds(data, "name")
    return (*path, "name") if named else path


def _holds(data: Any, step: str | int) -> bool:
    if isinstance(data, Mapping):
        return step in data
    return isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)


def _reason(detail: ErrorDetails, path: KeyPath, data: Any, model: type[BaseModel]) -> str:
    match detail["type"]:
        case "extra_forbidden":
            known = sorted({name for one in _models_at(model, data, path[:-1]) for name in _keys(one)})
            return f"unknown key.{did_you_mean(str(path[-1]), known) or _listed(known)}"
        case "missing":
            return "this key is required."
        case "component":
            return detail["msg"]
        case "value_error":
            return str(detail["ctx"]["error"])
        case "literal_error" | "enum":
            expected = detail["ctx"]["expected"]
            near = did_you_mean(str(detail["input"]), re.findall(r"'([^']*)'", expected))
            return f"expected {expected}, not {_short(detail['input'])}.{near}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected a mapping, not {_short(detail['input'])}."
    message = detail["msg"].removeprefix("Input should be ")
    if message.startswith(("greater", "less", "a multiple")):
        message = f"a number {message.removeprefix('a ')}"
    expected = message if message == detail["msg"] else f"expected {message}"
    return f"{expected}, not {_short(detail['input'])}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(known: list[str]) -> str:
    return f" Known here: {', '.join(known)}." if known else ""


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_at(model: type[BaseModel], data: Any, path: KeyPath) -> list[type[BaseModel]]:
    """Find the settings classes that the mapping at ``path`` may belong to."""
    models = [model]
    hints: list[Any] = []
    for step in path:
        data = data[step]
        if isinstance(step, str) and any(step in one.model_fields for one in models):
            fields = [one.model_fields[step] for one in models if step in one.model_fields]
            hints = [hint for field in fields for hint in (*field.metadata, field.annotation)]
        models = list(_models_in(hints, data))
    return models


def _models_in(hints: list[Any], value: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in type hints; a component's hint stands for the class that ``value`` names."""
    chosen = [hint.func for hint in _flat(hints) if isinstance(getattr(hint, "func", None), ByName)]
    if not chosen:
        yield from (hint for hint in _flat(hints) if isinstance(hint, type) and issubclass(hint, BaseModel))
    for choice in chosen:
        name = value.get("name", choice.default) if isinstance(value, Mapping) else value
        try:
            yield choice.load(str(name))
        except UserError:
            continue  # reported where the name stands


def _flat(hints: list[Any]) -> Iterator[Any]:
    """Yield hints with what is inside them: unions, lists, mappings and ``Annotated``."""
    for hint in hints:
        yield hint
        yield from _flat([*getattr(hint, "__metadata__", ()), *getattr(hint, "__args__", ())])
