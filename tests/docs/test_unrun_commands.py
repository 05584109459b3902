"""Commands that no test runs, as they take minutes or hours: what they name must be there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from hatchling.builders.sdist import SdistBuilder

from openvla_toolkit.cli import main
from openvla_toolkit.cli.verbs import VERBS
from openvla_toolkit.core.recipe import Recipe
from tests.docs.walkthrough import blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def sessions() -> dict[str, ast.FunctionDef]:
    """Return the sessions of the noxfile, which is not imported: nox need not be here."""
    functions = ast.parse((ROOT / "noxfile.py").read_text()).body
    return {
        node.name: node
        for node in functions
        if isinstance(node, ast.FunctionDef) and "nox.session" in map(_called, node.decorator_list)
    }


def _called(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def unrun(page: str) -> Iterator[list[str]]:
    """Yield the words of every command in a page's ``sh`` blocks."""
    for block in blocks(page):
        assert block.language not in ("bash", "shell"), f"line {block.line}: write 'console' or 'sh'."
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


def in_comments(recipe: Path) -> list[list[str]]:
    """Return the words of every command in a recipe's comments; two blanks end a command."""
    found = re.findall(r"^# +(openvla .+?)(?:  |$)", recipe.read_text(), re.MULTILINE)
    return [shlex.split(command) for command in found]


def check(words: list[str]) -> None:
    """Fail unless a command's program, session, verb, options and files exist."""
    match words:
        case ["python3", "noxfile.py", "-s", session] | ["nox", "-s", session]:
            assert session in sessions(), f"there is no session {session!r}."
        case ["source", path]:
            session = path.removeprefix(".nox/").removesuffix("/bin/activate")
            assert path == f".nox/{session}/bin/activate"
            assert not _borrows(sessions()[session]), f"{session!r} makes no environment."
        case ["openvla", "run", *rest]:
            with pytest.raises(SystemExit) as ended:
                main(["run", *rest, "--dry-run"])
            assert ended.value.code == 0, f"{shlex.join(words)} is refused."
        case ["openvla", "models" | "plan" | "predict" as verb, *rest]:  # a hub's models, a GPU, a minute
            _parse(verb, rest)
        case ["openvla", "data", "download", *rest]:  # nothing is fetched
            _parse("data", ["download", *rest])
        case ["pip", "install", requirement] if requirement.startswith("openvla-toolkit["):
            extras = SdistBuilder(str(ROOT)).metadata.core.optional_dependencies
            asked = set(requirement.removeprefix("openvla-toolkit[").removesuffix("]").split(","))
            assert asked <= extras.keys(), f"there is no extra {sorted(asked - extras.keys())}."
        case _:
            pytest.fail(f"{shlex.join(words)}: write it as 'console', so that it is run.")


def _parse(verb: str, words: list[str]) -> None:
    """Fail unless a verb, or a part of it, takes these arguments; nothing is carried out."""
    command: click.Command = import_module(f"openvla_toolkit.cli.{verb}").command
    if isinstance(command, click.Group):
        name, *words = words
        part = command.get_command(click.Context(command), name)
        assert part is not None
        command = part
    command.make_context(verb, words)


def _borrows(session: ast.FunctionDef) -> bool:
    return any("python=False" in ast.unparse(decorator) for decorator in session.decorator_list)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for words in unrun(text):
        check(words)
    for session in re.findall(r"(?:nox|noxfile\.py) -s ([a-z]+)", text):
        check(["nox", "-s", session])
    for verb in re.findall(r"`openvla ([a-z]+)[ `]", text):
        assert verb in VERBS, f"there is no verb {verb!r}."


def test_the_two_commands_of_the_readme() -> None:
    first = [["python3", "noxfile.py", "-s", session] for session in ("quickstart", "tests")]
    assert list(unrun((ROOT / "README.md").read_text()))[:2] == first


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_says_how_it_is_run(recipe: Path) -> None:
    commands = in_comments(recipe)
    assert commands
    for words in commands:
        check(words)
        assert words[2] == str(recipe.relative_to(ROOT))


def test_the_command_for_a_copy_of_bridge_leaves_nothing_at_the_small_one() -> None:
    own = in_comments(ROOT / "recipes/bridge-tiny.yaml")[-1]
    recipe = Recipe.load(ROOT / own[2], own[3:])
    assert "golden" not in recipe.model_dump_json()


@pytest.mark.parametrize(
    "wrong",
    [
        ["nox", "-s", "quickstrat"],
        ["source", ".nox/tests/bin/activate"],
        ["openvla", "run", "recipes/missing.yaml"],
        ["openvla", "run", "recipes/quickstart.yaml", "--resmue"],
        ["openvla", "run", "recipes/quickstart.yaml", "train.stesp=1"],
        ["openvla", "predict", "openvla/openvla-7b", "--picture", "a.png"],
        ["openvla", "models", "convert", "openvla/openvla-7b", "out", "--to", "onnx"],
        ["openvla", "models", "konvert", "a", "b"],
        ["pip", "install", "openvla-toolkit[everything]"],
        ["rm", "-r", "/"],
    ],
)
def test_what_is_not_there_fails(wrong: list[str]) -> None:
    with pytest.raises((AssertionError, KeyError, click.UsageError, pytest.fail.Exception)):
        check(wrong)
