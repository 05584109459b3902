"""YAML text to plain data, with the line on which every value stands.

Plain scalars follow YAML 1.2's core schema (``5e-4`` is a number, ``on`` and ``12:30`` are texts); keys are
always texts. Duplicate keys, tags and aliases that contain themselves are errors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import yaml

from openvla_toolkit.core.errors import RecipeError

__all__ = ["Document", "KeyPath", "parse_file", "parse_value"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

NODE_LIMIT = 100_000
"""A recipe with more values than this (its aliases followed) is taken for a mistake or an attack."""

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml is ten times faster
    """PyYAML's parser with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})$"), _first)


class Document(NamedTuple):
    """A parsed YAML text."""

    data: Any
    lines: dict[KeyPath, int]
    """The line, counted from 1, of the key (or list item) at each path; ``()`` is the document."""


def parse_file(text: bytes, *, file: str | Path) -> Document:
    """Parse the bytes of a recipe, which must be a mapping; raises ``RecipeError`` with the line."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise RecipeError("is not a text in UTF-8; a recipe is a YAML file.", file=file, line=line) from error
    node = _compose(decoded, file=file)
    if node is None:
        raise RecipeError("is empty; a recipe is a mapping with 'version', 'output', ...", file=file, line=1)
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError("is not a mapping of keys to values.", file=file, line=node.start_mark.line + 1)
    return _Reader(file).read(node)


def parse_value(text: str) -> Any:
    """Parse the right-hand side of an override; raises ``RecipeError`` without a place."""
    node = _compose(text, file=None)
    return None if node is None else _Reader(None).read(node).data


def _compose(text: str, *, file: str | Path | None) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(
            f"is not YAML: {reason}.", file=file, line=mark.line + 1 if mark else None
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"is not YAML: {' '.join(str(error).split())}.", file=file) from error
    return node


class _Reader:
    """Walks a node graph once, building the data and the table of lines."""

    def __init__(self, file: str | Path | None) -> None:
        self._file = file
        self._lines: dict[KeyPath, int] = {}
        self._open: list[int] = []

    def read(self, node: yaml.Node) -> Document:
        self._lines[()] = node.start_mark.line + 1
        return Document(self._value(node, ()), self._lines)

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise self._error("an alias may not contain itself.", node, path)
        if len(self._lines) > NODE_LIMIT:
            raise self._error(f"holds more than {NODE_LIMIT} values.", node, path)
        if not node.tag.endswith((":map", ":seq")):
            raise self._error(f"tags such as {node.tag} have no meaning in a recipe.", node, path)
        self._open.append(id(node))
        read = self._mapping if isinstance(node, yaml.MappingNode) else self._list
        value = read(node, path)
        self._open.pop()
        return value

    def _mapping(self, node: yaml.Node, path: KeyPath) -> Any:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a plain text.", key_node, path)
            key = key_node.value
            here = (*path, key)
            if key in data:
                reason = f"key '{key}' stands here twice (first on line {self._lines[here]})."
                raise self._error(reason, key_node, path)
            self._lines[here] = key_node.start_mark.line + 1
            data[key] = self._value(value_node, here)
        return data

    def _list(self, node: yaml.Node, path: KeyPath) -> Any:
        data = []
        for index, item in enumerate(node.value):
            here = (*path, index)
            self._lines[here] = item.start_mark.line + 1
            data.append(self._value(item, here))
        return data

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text, kind = node.value, node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1].isalpha() else text)
        if node.tag != "tag:yaml.org,2002:str":
            raise self._error(f"tags such as {node.tag} have no meaning in a recipe.", node, path)
        return text

    def _error(self, reason: str, node: yaml.Node, path: KeyPath) -> RecipeError:
        address = ".".join(map(str, path)) or None
        return RecipeError(reason, file=self._file, line=node.start_mark.line + 1, path=address)
