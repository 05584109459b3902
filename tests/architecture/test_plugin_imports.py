"""What a package of its own imports of the toolkit is public: it stays, or its change is announced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from generate_reference import pages

from openvla_toolkit.engines import building

ROOT = Path(__file__).parents[2]
TOOLKIT = "openvla_toolkit"
PUBLIC = (
    "interfaces",
    "testing",
    *(f"core.{name}" for name in ("component", "types", "errors", "contract", "hooks")),
    "engines.building",
)
"""Modules, and packages with all that is in them, that a plugin may import."""
BEYOND = {
    "openvla-example-dataset": {"datasets.episode_files"},
    "openvla-ray": {"core.worker"},
    "openvla-tfds": {"core.registry"},
    "template dataset": {"datasets.episode_files"},
}
"""What plugins import besides, and none may add to: it has no public place yet."""

SOURCES = {
    **{path.name: path / "src" for path in sorted((ROOT / "plugins").iterdir()) if (path / "src").is_dir()},
    **{f"template {path.parent.name}": path for path in (ROOT / TOOLKIT / "cli/templates").glob("*/src")},
}


def imported(folder: Path) -> Iterator[str]:
    """Yield the modules of the toolkit that a package imports, also for its type checker and in functions."""
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.py.tmpl")]):
        text = re.sub(r"\$\{?\w+\}?", "filled_in", path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module or ""
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


def is_public(module: str) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in PUBLIC)


def test_there_are_plugins_and_templates() -> None:
    assert {"openvla-deepspeed", *BEYOND, "template engine"} <= SOURCES.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_a_plugin_imports_what_is_public(name: str) -> None:
    own = [module for module in imported(SOURCES[name]) if module.partition(".")[0] == TOOLKIT]
    inner = {module.removeprefix(f"{TOOLKIT}.") for module in own}
    assert {module for module in inner if not is_public(module)} == BEYOND.get(name, set())


def test_what_engines_are_built_from_is_in_the_reference() -> None:
    (page,) = (text for path, text in pages().items() if path.endswith("/building-engines.md"))
    headings = set(re.findall(r"^## (\w+)", page, re.MULTILINE))
    assert headings == {name for name in building.__all__ if not name.isupper()}
    assert all(f"`{name}`" in page for name in building.__all__ if name.isupper())
