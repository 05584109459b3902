from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openvla_toolkit.cli.new import TEMPLATED_KINDS, TEMPLATES, rendered
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import KINDS, load

Openvla = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_tests(*folders: Path, options: tuple[str, ...] = ()) -> str:
    """Run the packages' own tests in a fresh interpreter; return what pytest said."""
    path = os.pathsep.join(str(folder / "src") for folder in folders)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options]
    done = subprocess.run(
        [*command, *(str(folder / "tests") for folder in folders)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_dataset_package_passes_its_own_tests_at_once(openvla: Openvla) -> None:
    code, out, _ = openvla("new", "dataset", "my-robot")
    assert code == 0
    line = '(cd openvla-my-robot && pip install -e ".[test]" && pytest)'
    assert out == f"wrote openvla-my-robot; try it: {line}\n"
    folder = Path("openvla-my-robot").resolve()
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "pyproject.toml",
        "src/openvla_my_robot/__init__.py",
        "src/openvla_my_robot/episodes.py",
        "src/openvla_my_robot/py.typed",
        "tests/test_openvla_my_robot.py",
    ]
    assert "5 passed" in run_tests(folder, options=("-c", str(folder / "pyproject.toml")))


def test_every_kind_of_package_passes_its_own_tests(openvla: Openvla, tmp_path: Path) -> None:
    folders = []
    for kind in TEMPLATED_KINDS:
        name = f"new-{kind.replace('_', '-')}"
        assert openvla("new", kind, name)[0] == 0
        folders.append(tmp_path / f"openvla-{name}")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    said = run_tests(*folders, options=("-c", str(tmp_path / "pytest.ini")))
    assert "failed" not in said
    assert int(said.split(" passed")[0].split()[-1]) >= 3 * len(TEMPLATED_KINDS)


@pytest.mark.parametrize("kind", TEMPLATED_KINDS)
def test_the_entry_point_names_the_settings(kind: str, install: Callable[..., Path]) -> None:
    files = rendered(kind, "arm-7")
    group = files["pyproject.toml"].partition(f'[project.entry-points."openvla_toolkit.{kind}"]\n')[2]
    name, target = group.splitlines()[0].split(" = ")
    module, _, _ = target.strip('"').partition(":")
    code = files[f"src/{module}/__init__.py"]
    install("openvla-arm-7", {kind: {name: target.strip('"')}}, modules={module: code})
    config = load(kind, "arm-7")
    assert (config.kind, config.model_fields["name"].default) == (kind, "arm-7")


def test_what_is_written_follows_the_toolkits_own_style() -> None:
    for kind in TEMPLATED_KINDS:
        for path, text in rendered(kind, "my-robot").items():
            assert "$" not in text, path
            assert path == "README.md" or all(len(line) <= 110 for line in text.splitlines()), path
            assert not path.endswith(".py") or text.startswith(('"""', "from __future__")), path


def test_templates_belong_to_kinds() -> None:
    assert {path.name for path in TEMPLATES.iterdir()} - {"package"} <= set(KINDS)
    assert {"dataset", "embodiment", "transform", "environment", "evaluator", "observer"} <= set(
        TEMPLATED_KINDS
    )


def test_a_recipe_may_name_it_after_installation(install: Callable[..., Path], tmp_path: Path) -> None:
    code = rendered("dataset", "my-robot")["src/openvla_my_robot/__init__.py"]
    target = "openvla_my_robot:MyRobotConfig"
    install("openvla-my-robot", {"dataset": {"my-robot": target}}, modules={"openvla_my_robot": code})
    recipe = Recipe.from_mapping({"output": "x", "data": [{"name": "my-robot", "root": str(tmp_path)}]})
    assert recipe.data[0].name == "my-robot"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["datset", "x"],
            "error: there is no template for a 'datset'. Did you mean 'dataset'? There are templates for:",
        ),
        (["mixture", "x"], "error: there is no template for a 'mixture'. There are templates for: "),
        (
            ["dataset", "My_Robot"],
            "error: 'My_Robot' is no name for a package: lower-case letters, digits, single",
        ),
        (["dataset", "3d"], "error: '3d' is no name for a package"),
        (["dataset", "a--b"], "error: 'a--b' is no name for a package"),
        (["dataset", "../x"], "error: '../x' is no name for a package"),
        (
            ["dataset", "toy-episodes"],
            "error: dataset 'toy-episodes' is provided by openvla-toolkit already;",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(
    openvla: Openvla, toys: Path, words: list[str], message: str
) -> None:
    before = set(Path.cwd().iterdir())
    code, _, err = openvla("new", *words)
    assert code == 2
    assert err.startswith(message)
    assert set(Path.cwd().iterdir()) == before


def test_the_better_name_is_suggested(openvla: Openvla) -> None:
    assert openvla("new", "dataset", "My_Robot 2")[2].endswith("Did you mean 'my-robot-2'?\n")


def test_nothing_is_overwritten(openvla: Openvla) -> None:
    folder = Path("openvla-mine")
    folder.mkdir()
    assert openvla("new", "dataset", "openvla-mine")[0] == 0
    (folder / "README.md").write_text("my own words")
    code, _, err = openvla("new", "dataset", "mine")
    assert code == 2
    assert err == "error: openvla-mine exists already and is not an empty folder; choose another name.\n"
    assert (folder / "README.md").read_text() == "my own words"
