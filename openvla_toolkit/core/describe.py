"""The fields of a settings class in words, for ``openvla plugins`` and the reference."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.registry import ByName

__all__ = ["FieldDescription", "describe_fields", "field_docs", "type_name"]

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


class FieldDescription(NamedTuple):
    """One field of a settings class."""

    name: str
    type: str
    required: bool
    default: Any
    """As plain JSON data; None for a required field."""
    doc: str


def describe_fields(model: type[BaseModel]) -> list[FieldDescription]:
    """Describe the fields of a settings class, ``name`` left out.

    Of a component's settings that are sections, the fields follow, as ``lora.rank``.
    """
    docs = field_docs(model)
    described = []
    for name, field in model.model_fields.items():
        if name == "name":
            continue
        described.append(
            FieldDescription(name, _field_type(field), field.is_required(), _default(field), docs[name])
        )
        for section in _sections(field) if issubclass(model, ComponentConfig) else ():
            described += [one._replace(name=f"{name}.{one.name}") for one in describe_fields(section)]
    return described


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> its description, else the string that stands under it in the source, else "".

    A subclass that annotates a field anew gives it a new text. A class that was typed at a prompt has no
    source, so no texts.
    """
    written: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            written.update(_strings_under_fields(base))
    return {name: field.description or written.get(name, "") for name, field in model.model_fields.items()}


def type_name(annotation: Any) -> str:
    """Write a type hint as a person would: ``int | null``, ``'high' | 'low'``, ``list[transform]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Annotated:
        chosen = [one.func for one in arguments[1:] if isinstance(getattr(one, "func", None), ByName)]
        return " | ".join(chosen[0].kinds) if chosen else type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(type_name, arguments)))
    if origin is Literal:
        return " | ".join(json.dumps(value) if value is None else repr(value) for value in arguments)
    if origin is not None:
        inside = ", ".join("..." if one is Ellipsis else type_name(one) for one in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inside}]"
    return getattr(annotation, "__name__", str(annotation))


def _sections(field: FieldInfo) -> Iterator[type[Section]]:
    """Yield the sections that a field holds, but not the components."""
    for one in (field.annotation, *get_args(field.annotation)):
        if inspect.isclass(one) and issubclass(one, Section) and not issubclass(one, ComponentConfig):
            yield one


def _strings_under_fields(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    try:
        source = inspect.getsource(model)
    except (OSError, TypeError):  # what inspect raises where there is no source
        return
    definition = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(definition, ast.ClassDef)
    for item, following in pairwise([*definition.body, ast.Pass()]):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield item.target.id, inspect.cleandoc(text)
                case _:
                    yield item.target.id, ""


def _field_type(field: FieldInfo) -> str:
    chosen = [one.func for one in field.metadata if isinstance(getattr(one, "func", None), ByName)]
    name = " | ".join(chosen[0].kinds) if chosen else type_name(field.annotation)
    bounds = [
        f"{sign} {getattr(one, key):g}"
        for one in field.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(one, key)
    ]
    return ", ".join([name, *bounds])


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else to_jsonable_python(value, serialize_unknown=True)
