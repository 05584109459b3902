"""Runs of two processes, from the command line: the curves of one, whatever happens on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.stages.preflight import check_processes
from openvla_toolkit.stages.run_recipe import run

SIGNALLING = '''
import os
from pathlib import Path
from typing import Literal
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.interfaces.observer import ObserverConfig

class SignallingConfig(ObserverConfig):
    """Sends a signal to a rank, or to the launcher, when a step was logged."""
    name: Literal["signalling"] = "signalling"
    step: int
    number: int
    rank: int | None = None

    def build(self):
        return Signalling(self)

class Signalling:
    def __init__(self, config):
        self._config = config

    @observe
    def metrics_logged(self, stage, step):
        if (stage, step) == ("train", self._config.step):
            launcher = os.getppid()
            ranks = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            rank = self._config.rank
            os.kill(launcher if rank is None else int(ranks[rank]), self._config.number)
'''
SETTINGS = {"engine": {"name": "fsdp", "device": "cpu"}, "save_every": 3, "keep": 9}
LAST = 12


class Ended(NamedTuple):
    """How a run on the command line ended."""

    code: int
    said: str


@pytest.fixture
def start(make_recipe: Any, install: Any, tmp_path: Path) -> Any:
    """Run a recipe from the command line: ``start(output, *words, **settings of the training)``."""
    target = "signalling:SignallingConfig"
    install("openvla-signalling", {"observer": {"signalling": target}}, modules={"signalling": SIGNALLING})

    def started(output: str, *words: str, **settings: Any) -> Ended:
        file = tmp_path / f"{output}.yaml"
        file.write_text(make_recipe(output, train={**SETTINGS, **settings}).to_yaml())
        command = [sys.executable, "-m", "openvla_toolkit", "run", str(file), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return Ended(done.returncode, done.stdout + done.stderr)

    return started


def signalling(step: int, number: int, rank: int | None = None) -> str:
    told = f"{{name: signalling, step: {step}, number: {number}, rank: {'null' if rank is None else rank}}}"
    return f"observers=[jsonl, {told}]"


def test_two_processes_have_the_curve_of_one_and_go_on_as_one(
    start: Any, make_recipe: Any, read_curve: Any, tmp_path: Path
) -> None:
    run(make_recipe("one"))
    batch = {"total": 4, "per_device": 1}
    assert start("two", "--nproc", "2", steps=6, batch=batch).code == 0
    assert start("two", "--resume", "auto", "train.engine={name: ddp}").code == 0  # one process, and ddp
    one, two = read_curve(tmp_path / "one"), read_curve(tmp_path / "two")
    assert list(two) == list(range(1, LAST + 1))
    for step, line in one.items():
        assert {**two[step], "total": LAST} == pytest.approx(line, rel=1e-4)


@pytest.mark.slow
def test_ranks_that_are_killed_are_named_and_the_run_goes_on_bit_for_bit(
    start: Any, read_curve: Any, tmp_path: Path
) -> None:
    """Killed right after a checkpoint was begun: it is whole or not there, and what is there can be read."""
    for step, rank in ((4, 1), (7, 0)):
        ended = start("broken", signalling(step, 9, rank), "--nproc", "2", "--resume")
        assert ended.code == 1
        assert f"rank {rank} of 2 was killed by SIGKILL" in ended.said
        assert "Traceback" not in ended.said
        for checkpoint in checkpoints_of(tmp_path / "broken"):
            assert load_policy(checkpoint).contract
    assert start("broken", "--nproc", "2", "--resume").code == 0
    assert start("straight", "--nproc", "2").code == 0
    assert read_curve(tmp_path / "broken") == read_curve(tmp_path / "straight")
    assert not list((tmp_path / "broken" / "checkpoints").glob("*.partial-*"))


def test_preemption_saves_and_says_how_to_go_on(start: Any, tmp_path: Path) -> None:
    """A signal meets two processes at different moments; they stop at the same step."""
    ended = start("stopped", signalling(4, signal.SIGUSR1), "--nproc", "2")
    assert ended.code == 128 + signal.SIGUSR1
    last = checkpoints_of(tmp_path / "stopped")[-1]
    assert int(last.name.removeprefix("step-")) >= 4
    assert f"the state is saved in {last}. Go on with --resume." in ended.said.replace("\n", "")


def test_what_one_rank_says_of_bad_data_is_said_by_the_run(start: Any, tmp_path: Path) -> None:
    """Every rank finds the same mistake; it is said once, with the code of a mistake."""
    ended = start("mistaken", "policy.cameras=[ceiling]", "--nproc", "2")
    assert ended.code != 0
    assert ended.said.count("ceiling") <= 2
    assert not checkpoints_of(tmp_path / "mistaken")


@pytest.mark.parametrize(
    ("settings", "path", "reason"),
    [
        ({}, "train.engine.name", "the engine 'single' is one process, and there are 3"),
        (
            {"engine": {"name": "ddp"}},
            "train.batch.total",
            r"4 samples do not divide over 3 processes with 2 samples at a time; .* such as 6\.",
        ),
        (
            {"engine": {"name": "ddp"}, "batch": {"total": 10}},
            "train.batch.total",
            r"10 samples do not divide over 3 processes; .* such as 9 or 12\.",
        ),
    ],
)
def test_what_does_not_divide_is_refused(make_recipe: Any, settings: Any, path: str, reason: str) -> None:
    recipe = make_recipe(train=settings)
    check_processes(recipe, 1)
    with pytest.raises(RecipeError, match=rf"^{path}: {reason}"):
        check_processes(recipe, 3)


def test_several_processes_need_something_to_train(make_recipe: Any) -> None:
    with pytest.raises(UserError, match="this recipe trains nothing"):
        check_processes(make_recipe(trains=False), 2)


def test_nproc_and_torchrun_are_one_too_many(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    ended = start("both", "--nproc", "2")
    assert ended.code == 2
    assert "give --nproc or use torchrun, not both" in ended.said


def test_an_engine_of_one_process_starts_one_and_says_so(start: Any, tmp_path: Path) -> None:
    ended = start("alone", "--nproc", "2", "train.engine={name: single}")
    assert ended.code == 0
    assert "'single' trains in one process: one is started, not 2" in ended.said
    assert checkpoints_of(tmp_path / "alone")
