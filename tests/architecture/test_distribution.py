"""What is handed out: a source archive with all that its sessions need, and every dependency declared."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

import openvla_toolkit

ROOT = Path(__file__).parents[2]
PACKAGE = Path(openvla_toolkit.__file__).parent
BROUGHT = {"pydantic_core": "pydantic", "markupsafe": "jinja2"}
"""Modules that are part of what another distribution offers, and come in the version that it wants."""


@pytest.mark.parametrize(
    "path",
    [
        "noxfile.py",
        "mkdocs.yml",
        "CONTRIBUTING.md",
        "benchmarks/rows.py",
        "plugins/openvla-example-dataset/pyproject.toml",
        "recipes/quickstart.yaml",
        "tests/docs/walkthrough.py",
        "docs/generate_reference.py",
        "openvla_toolkit/py.typed",
        "openvla_toolkit/cli/templates/package/pyproject.toml.tmpl",
    ],
)
def test_the_source_archive_holds_what_its_sessions_need(path: str, archived: set[str]) -> None:
    assert path in archived


@pytest.fixture(scope="module")
def archived() -> set[str]:
    return {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}


def test_whatever_is_imported_is_declared() -> None:
    core = SdistBuilder(str(ROOT)).metadata.core
    extras = core.optional_dependencies
    needed = [line for name, lines in extras.items() if name not in ("dev", "docs") for line in lines]
    declared = {_normalised(re.split(r"[^\w.-]", line)[0]) for line in [*core.dependencies, *needed]}
    homes = {**packages_distributions(), **{module: [home] for module, home in BROUGHT.items()}}
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in PACKAGE.rglob("*.py")
        for module in _imported(path)
        if module not in sys.stdlib_module_names and module != PACKAGE.name
        if not declared & {_normalised(name) for name in homes.get(module, [])}
    }
    assert not undeclared


def _imported(path: Path) -> Iterator[str]:
    """Yield the top-level names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
