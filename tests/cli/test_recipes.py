"""The verbs that read recipes: run, check, show."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Openvla = Callable[..., tuple[int, str, str]]
RECIPE = """\
output: runs/toy
policy: toy-policy
data: [{name: toy-episodes, root: /data}]
observers: []
evaluate: [toy-score]
"""
TRAINING = "train={optimizer: {lr: 1}, steps: 1, batch: {total: 4}}"
LAUNCHING = """
from typing import Literal
from openvla_toolkit.interfaces.launcher import LauncherConfig

LAUNCHED = []

class LocalConfig(LauncherConfig):
    name: Literal["local"] = "local"
    nproc: int = 1

    @property
    def processes(self):
        return self.nproc

    def build(self):
        return self

    def launch(self, words, *, recipe):
        LAUNCHED.append((self.nproc, list(words)))
"""


@pytest.fixture(autouse=True)
def recipe(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bool]]:
    """Take the place of the stages and note what they are asked."""
    asked: list[tuple[Any, bool]] = []
    stand_in = types.ModuleType("openvla_toolkit.stages.run_recipe")

    def run(recipe: Any, *, resume: bool) -> types.SimpleNamespace:
        asked.append((recipe, resume))
        return types.SimpleNamespace(
            output=recipe.output, checkpoint=Path("step-1"), summary=["success 87 %"]
        )

    stand_in.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return asked


@pytest.fixture
def launching(install: Any) -> list[tuple[int, list[str]]]:
    """Take the place of the launcher and note what it is asked to start."""
    groups = {"launcher": {"local": "launching:LocalConfig"}}
    install("openvla-launching", groups, modules={"launching": LAUNCHING})
    launched: list[tuple[int, list[str]]] = importlib.import_module("launching").LAUNCHED
    return launched


def test_run_passes_the_recipe_with_its_overrides(openvla: Openvla, runs: list[tuple[Any, bool]]) -> None:
    code, out, err = openvla("run", "toy.yaml", "seed=3", "--policy.size=9", "--resume")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"toy.yaml: prepare, evaluate -> {Path.cwd() / 'runs/toy'}",
        "policy: step-1",
        "success 87 %",
    ]
    ((recipe, resume),) = runs
    assert (recipe.seed, recipe.policy.size, resume) == (3, 9, True)


def test_a_dry_run_validates_and_runs_nothing(openvla: Openvla, runs: list[tuple[Any, bool]]) -> None:
    code, out, _ = openvla("run", "toy.yaml", "--dry-run", "output=elsewhere")
    assert code == 0
    assert out == f"toy.yaml: prepare, evaluate -> {Path.cwd() / 'elsewhere'}\n"
    assert runs == []
    assert not Path("elsewhere").exists()


def test_a_recipe_that_asks_for_nothing_is_refused(openvla: Openvla, runs: list[tuple[Any, bool]]) -> None:
    code, _, err = openvla("run", "toy.yaml", "data=[]", "evaluate=[]")
    assert code == 2
    assert err.startswith("error: toy.yaml asks for no stage")


def test_only_the_first_rank_speaks(openvla: Openvla, runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert openvla("run", "toy.yaml", TRAINING) == (0, "", "")
    assert len(runs) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("toy.yaml", "--resume", "auto"),
        ("--resume", "auto", "toy.yaml"),
        ("toy.yaml", "--resume=auto", "seed=3"),
    ],
)
def test_resume_auto_is_resume(
    openvla: Openvla, runs: list[tuple[Any, bool]], words: tuple[str, ...]
) -> None:
    code, _, err = openvla("run", *words)
    assert (code, err) == (0, "")
    assert [resume for _, resume in runs] == [True]


def test_processes_are_left_to_the_launcher(openvla: Openvla, runs: Any, launching: Any) -> None:
    words = ["toy.yaml", TRAINING, "seed=3", "--resume", "auto"]
    assert openvla("run", *words, "--nproc", "2")[0] == 0
    assert openvla("run", *words, "launcher={name: local, nproc: 4}")[0] == 0
    assert launching == [
        (2, ["run", "toy.yaml", TRAINING, "seed=3", "--resume"]),
        (4, ["run", "toy.yaml", TRAINING, "seed=3", "launcher={name: local, nproc: 4}", "--resume"]),
    ]
    assert runs == []
    assert openvla("run", *words, "launcher=local", "--nproc", "1")[0] == 0
    assert len(runs) == 1


def test_processes_that_were_started_start_no_others(
    openvla: Openvla, runs: Any, launching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    assert openvla("run", "toy.yaml", TRAINING, "launcher={name: local, nproc: 4}")[0] == 0
    assert len(runs) == 1


def test_more_processes_than_samples_are_refused(openvla: Openvla, runs: Any, launching: Any) -> None:
    code, _, err = openvla("run", "toy.yaml", TRAINING, "--nproc", "3")
    assert code == 2
    assert err == (
        "error: train.batch.total: 4 samples do not divide over 3 processes; choose a multiple of 3, such as "
        "3 or 6.\n"
    )


def test_several_mistakes_are_several_lines(openvla: Openvla, recipe: Path) -> None:
    recipe.write_text(RECIPE + "sed: 5\nbenchmark: {repeat: 5}\n")
    code, _, err = openvla("run", "toy.yaml", "--dry-run")
    assert code == 2
    assert err.splitlines() == [
        "error: toy.yaml:6: sed: unknown key. Did you mean 'seed'?",
        "error: toy.yaml:7: benchmark.repeat: unknown key. Did you mean 'repeats'?",
    ]


def test_check_reads_every_file(openvla: Openvla, tmp_path: Path) -> None:
    assert openvla("check", "toy.yaml") == (0, "ok  toy.yaml\n", "")
    (tmp_path / "bad.yaml").write_text("output: [\n")
    code, out, err = openvla("check", "bad.yaml", "toy.yaml", "absent.yaml")
    assert code == 2
    assert out == "ok  toy.yaml\n"
    assert err.splitlines()[0].startswith("bad.yaml:2: is not YAML")
    assert err.splitlines()[1].startswith("there is no recipe absent.yaml.")


def test_show_prints_what_would_run(openvla: Openvla) -> None:
    code, out, _ = openvla("show", "toy.yaml", "seed=3")
    assert code == 0
    shown = yaml.safe_load(out)
    assert shown["seed"] == 3
    assert shown["policy"] == {
        "name": "toy-policy",
        "lora": None,
        "size": 8,
        "code": {"name": "toy-code", "bins": 256},
    }
    assert "\x1b" not in out


def test_show_is_coloured_on_a_terminal(openvla: Openvla, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in openvla("show", "toy.yaml")[1]


def test_show_schema_is_json(openvla: Openvla) -> None:
    code, out, _ = openvla("show", "--schema")
    assert code == 0
    assert json.loads(out)["title"] == "OpenVLA recipe"


def test_show_wants_one_thing(openvla: Openvla) -> None:
    assert openvla("show")[0] == 2
    assert openvla("show", "toy.yaml", "--schema")[0] == 2
