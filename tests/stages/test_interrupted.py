"""A run that is stopped outside training ends in good order and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from openvla_toolkit.checkpoints.layout import STOPPED_FILE, checkpoints_of
from openvla_toolkit.core.errors import RunInterrupted
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.interfaces.observer import ObserverConfig
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import LinearPolicy


class TerminatingConfig(EvaluatorConfig):
    """Sends SIGTERM to this process while it measures, from an observer's method or from its own."""

    name: Literal["terminating"] = "terminating"
    by_observer: bool = False

    def build(self) -> Any:
        return self

    def evaluate(self, policy: Any, folder: Path, progress: Any) -> Mapping[str, Any]:
        (folder / "half").touch()
        if not self.by_observer:
            os.kill(os.getpid(), signal.SIGTERM)
        progress(1, {"total": 1})
        return {"summary": ["nobody stopped me"]}


class EarConfig(ObserverConfig):
    """Keeps the error that it hears of; terminates this process at an evaluation if asked to."""

    name: Literal["ear"] = "ear"
    terminates: bool = False

    def build(self) -> object:
        return Ear(terminates=self.terminates)


class Ear:
    heard: list[BaseException | None] = []

    def __init__(self, *, terminates: bool) -> None:
        self._terminates = terminates

    @observe
    def metrics_logged(self, stage: str) -> None:
        if self._terminates and stage.startswith("evaluate"):
            os.kill(os.getpid(), signal.SIGTERM)

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        self.heard.append(error)


@pytest.mark.parametrize("by_observer", [False, True])
def test_sigterm_in_an_evaluation(make_recipe: Any, by_observer: bool) -> None:
    before = signal.getsignal(signal.SIGTERM)
    Ear.heard.clear()
    recipe = make_recipe(
        evaluate=[TerminatingConfig(by_observer=by_observer)], observers=[EarConfig(terminates=by_observer)]
    )
    with pytest.raises(RunInterrupted, match=r"stopped by SIGTERM\. Go on with --resume") as caught:
        run(recipe)
    assert Ear.heard == [caught.value]
    assert caught.value.exit_code == 143
    assert list((recipe.output / "evaluation").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def asked_while_saving(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run, with one signal after the fourth step and another while its checkpoint is written."""
    loss, save, passes = LinearPolicy.loss, LinearPolicy.save, []

    def start(first: signal.Signals, second: signal.Signals) -> Path:
        def asked(self: LinearPolicy, module: Any, batch: Any) -> Any:
            passes.append(1)
            if len(passes) == 8:  # two passes are a step
                os.kill(os.getpid(), first)
            return loss(self, module, batch)

        def slowly(self: LinearPolicy, folder: Path, **options: Any) -> None:
            os.kill(os.getpid(), second)
            time.sleep(0.5)
            save(self, folder, **options)

        monkeypatch.setattr(LinearPolicy, "loss", asked)
        monkeypatch.setattr(LinearPolicy, "save", slowly)
        recipe = make_recipe()
        run(recipe)
        return recipe.output

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_same_signal_once_more_does_not_cut_the_save_short(
    asked_while_saving: Any, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(
        RunInterrupted, match=f"stopped by {number.name} after step 4 of 12; the state is saved"
    ):
        asked_while_saving(number, number)
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["step-000004"]
    assert (tmp_path / "run" / STOPPED_FILE).read_text() == f"{number.name}\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (signal.SIGINT, signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, signal.SIGINT, KeyboardInterrupt),
        (signal.SIGUSR1, signal.SIGTERM, RunInterrupted),
    ],
)
def test_a_second_ctrl_c_or_another_signal_ends_a_run_of_one_process_at_once(
    asked_while_saving: Any, tmp_path: Path, first: signal.Signals, second: signal.Signals, error: Any
) -> None:
    with pytest.raises(error) as caught:
        asked_while_saving(first, second)
    assert checkpoints_of(tmp_path / "run") == []
    assert "is saved" not in str(caught.value)


def test_what_a_killed_evaluation_left_is_swept(make_recipe: Any, counting: Any, measured: Any) -> None:
    recipe = make_recipe(evaluate=[counting(before_training=True)])
    leftover = recipe.output / "evaluation" / "before-0-counting.partial-1-a"
    leftover.mkdir(parents=True)
    (leftover / "result.json").write_text("{}")
    assert list(run(recipe).evaluations) == ["before-0-counting", "after-0-counting"]
    assert not leftover.exists()


@pytest.fixture
def preparing(make_recipe: Any, tmp_path: Path) -> Iterator[Any]:
    """Start a run that generates demonstrations without end; the test's end kills it."""
    data = {
        "name": "demonstrations",
        "environment": "dots",
        "root": str(tmp_path / "data"),
        "dataset": "dots",
        "episodes": 10**6,
        "workers": 2,
    }
    recipe = make_recipe(policy=None, trains=False, data=[data])
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "openvla_toolkit", "run", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until_generating(recipe.output, process)
        yield process, data
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def until_generating(output: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    metrics = output / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no demonstration in two minutes"
        time.sleep(0.02)


def test_demonstrations_are_killed_in_the_middle(
    preparing: Any, make_recipe: Any, tmp_path: Path, processes: Any
) -> None:
    process, data = preparing
    children = processes.started_by(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    processes.until_gone(children)
    folder = tmp_path / "data" / "dots"
    assert [path.name.startswith(".1.0.0.incomplete-") for path in folder.iterdir()] == [True]
    run(make_recipe("again", policy=None, trains=False, data=[{**data, "episodes": 3, "workers": 1}]))
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


def test_demonstrations_are_terminated(preparing: Any, tmp_path: Path, processes: Any) -> None:
    process, _ = preparing
    children = processes.started_by(process.pid)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in said
    assert "Traceback" not in said
    processes.until_gone(children)
    assert list((tmp_path / "data" / "dots").iterdir()) == []
