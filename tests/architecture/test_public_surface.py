"""``__all__`` says what is public, and says it truly."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import openvla_toolkit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openvla_toolkit"
STRICT = ("core", "interfaces", "cli")
"""Folders where every public class and function must be in ``__all__``."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def exported(tree: ast.Module) -> list[str] | None:
    """Return the literal ``__all__`` of a module, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(tree: ast.Module) -> set[str]:
    """Return every name that a module binds at its top level, also under ``if``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_is_exported_exists_and_is_sorted(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = exported(tree)
    if names is None:
        needs_one = path.parent.name in STRICT and path.name not in ("__init__.py", "__main__.py")
        assert not needs_one, f"{name_of(path)} has no __all__"
        return
    assert len(set(names)) == len(names)
    assert set(names) <= defined(tree)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in STRICT], ids=name_of)
def test_what_is_public_is_exported(path: Path) -> None:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}
    assert public <= set(exported(tree) or [])


def test_the_package_resolves_its_names_on_first_use() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    for_type_checkers = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_type_checkers == openvla_toolkit._HOMES
    assert set(openvla_toolkit.__all__) == {*openvla_toolkit._HOMES, "__version__"}
    assert set(openvla_toolkit.__all__) <= set(dir(openvla_toolkit))
    for name, home in openvla_toolkit._HOMES.items():
        assert getattr(openvla_toolkit, name) is getattr(importlib.import_module(home), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        openvla_toolkit.nonsense  # noqa: B018  # the access is the test
