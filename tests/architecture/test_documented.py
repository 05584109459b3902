"""What exists is documented, and what the documentation says of the set-up is so."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from generate_reference import pages

from openvla_toolkit.cli.verbs import VERBS
from openvla_toolkit.core import errors
from openvla_toolkit.core.hooks import FACTS, Facts
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import KINDS, TOOLKIT, distribution_name, find
from tests.docs.walkthrough import blocks

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return {Path(path).stem: text for path, text in pages().items()}


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#+ ([\w-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_its_components_are_in_the_reference(kind: str, reference: dict[str, str]) -> None:
    own = {
        name
        for name, entries in find(kind).items()
        if any(distribution_name(entry) == TOOLKIT for entry in entries)
    }
    assert own <= headings(reference[kind])
    assert f"]({kind}.md)" in reference["index"]


def test_every_hook_is_in_the_reference_with_its_arguments(reference: dict[str, str]) -> None:
    for fact in FACTS:
        arguments = list(inspect.signature(getattr(Facts, fact)).parameters)[1:]
        assert fact in headings(reference["hooks"])
        signature = re.search(rf"^{fact}\(([^)]*)\)", reference["hooks"], re.MULTILINE)
        assert signature, fact
        assert re.findall(r"(\w+):", signature[1]) == arguments


def test_every_error_is_in_the_reference_and_in_the_tree(reference: dict[str, str]) -> None:
    classes = [name for name in errors.__all__ if inspect.isclass(getattr(errors, name))]
    assert len(classes) > 10
    for name in classes:
        assert name in headings(reference["errors"])
        assert re.search(rf"\b{name}\b", errors.__doc__ or "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_reference(verb: str, reference: dict[str, str]) -> None:
    assert f"## openvla {verb}\n" in reference["cli"]


def test_every_key_of_a_recipe_is_in_the_reference(reference: dict[str, str]) -> None:
    for key in Recipe.model_fields:
        assert f"| `{key}` |" in reference["recipe"]


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_is_valid_and_says_how_it_is_run(path: Path) -> None:
    assert Recipe.load(path).stages
    assert f"openvla run {path.relative_to(ROOT)}" in path.read_text()


def test_the_readme_recipe_is_valid_and_has_twelve_lines(tmp_path: Path) -> None:
    (recipe,) = [block.text for block in blocks((ROOT / "README.md").read_text()) if block.language == "yaml"]
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert Recipe.load(tmp_path / "recipe.yaml").stages == ("prepare", "train", "evaluate", "benchmark")
    assert len(recipe.splitlines()) == 12


def test_ci_runs_the_very_test_command_of_the_readme() -> None:
    command = "python3 noxfile.py -s tests"
    assert command in (ROOT / "README.md").read_text()
    assert f"check {command}\n" in (ROOT / ".ci" / "run").read_text()


def test_every_session_is_in_the_guide_for_contributors() -> None:
    sessions = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert "tests" in sessions
    for session in set(sessions) - {"develop"}:
        assert f"| `{session}` |" in guide
