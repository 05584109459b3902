"""Python source to Markdown: signatures, fields and docstrings of classes and functions; imports nothing."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Source", "prose"]

_SECTION = re.compile(r"(Args|Raises|Returns):")
_WIDTH = 100


class Source:
    """One module's text."""

    def __init__(self, path: Path) -> None:
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self.doc = ast.get_docstring(self._tree) or ""
        self._definitions = {
            node.name: node for node in self._tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }

    def classes(self) -> list[str]:
        """Return the names of the module's public classes, in the order they are written."""
        return [
            name
            for name, node in self._definitions.items()
            if isinstance(node, ast.ClassDef) and not name.startswith("_")
        ]

    def page(self, names: Iterable[str], *, fields: bool = True) -> str:
        """Describe classes (``fields``: with their attributes) and functions, each under a heading."""
        parts = [part for name in names for part in self._described(self._definitions[name], fields=fields)]
        return "\n\n".join(parts)

    def _described(self, node: ast.ClassDef | ast.FunctionDef, *, fields: bool) -> Iterator[str]:
        level = 2
        if isinstance(node, ast.FunctionDef):
            yield from _function(node, level)
            return
        yield f"{'#' * level} {node.name} {{ #{node.name} }}"
        yield prose(ast.get_docstring(node) or "")
        if fields and (attributes := _fields(node)):
            yield attributes
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and _is_public(item):
                yield from _function(item, level + 1)


def prose(docstring: str) -> str:
    """Turn a docstring into Markdown: double backticks to single ones, ``Args:`` and ``Raises:`` to lists."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(docstring).splitlines():
        if _SECTION.fullmatch(line):
            lines += ["", f"**{line.rstrip(':')}**", ""]
            inside = True
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon else f"- {line.strip()}")
        elif inside and line and not line.startswith(" "):
            inside = False
            lines += ["", line]
        else:
            lines.append(line)
    return "\n".join(lines).replace("``", "`")


def _fields(node: ast.ClassDef) -> str:
    """List annotated attributes with the string that stands under each."""
    rows: list[str] = []
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or _is_hidden(item):
            continue
        default = _default(item.value)
        text = f"- `{ast.unparse(item.target)}: {ast.unparse(item.annotation)}{default}`"
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text += f"<br>{' '.join(prose(str(following.value.value)).split())}"
        rows.append(text)
    return "\n".join(rows)


def _is_hidden(item: ast.AnnAssign) -> bool:
    return ast.unparse(item.target).startswith("_") or "ClassVar" in ast.unparse(item.annotation)


def _default(value: ast.expr | None) -> str:
    return "" if value is None or isinstance(value, ast.Call) else f" = {ast.unparse(value)}"


def _is_public(item: ast.FunctionDef) -> bool:
    return not item.name.startswith("_") or item.name in ("__len__", "__getitem__", "__call__")


def _function(node: ast.FunctionDef, level: int) -> Iterator[str]:
    yield f"{'#' * level} {node.name.strip('_')}"
    yield f"```python\n{_signature(node)}\n```"
    yield prose(ast.get_docstring(node) or "")


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = [part.strip() for part in _split(ast.unparse(node.args))]
    arguments = [part for part in arguments if part and part not in ("self", "cls")]
    line = f"{node.name}({', '.join(arguments)}){returns}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{node.name}(", *(f"    {part}," for part in arguments), f"){returns}"])


def _split(arguments: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
