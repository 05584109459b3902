from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.observers import ConsoleConfig
from openvla_toolkit.observers import console as module


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.delenv("OPENVLA_QUIET", raising=False)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return clock


def test_lines_are_few_and_tell_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console = ConsoleConfig().build()
    for step in range(1, 1001):
        clock.now += 0.1
        values = {"total": 1000, "loss": 2.0, "token_accuracy": 0.5, "samples_per_second": 80.4, "lr": 0.1}
        console.metrics_logged(stage="train", step=step, values=values)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == "train  1/1000  loss 2.000  tokens 50.0%  80 samples/s"
    assert lines[1] == "train  51/1000  10.0/s  1 min 35 s left  loss 2.000  tokens 50.0%  80 samples/s"
    assert lines[-1].startswith("train  1000/1000  10.0/s  loss")
    assert len(lines) == 21


def test_slow_stages_are_heard_of_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console = ConsoleConfig().build()
    for step in range(1, 41):
        clock.now += 1.0
        console.metrics_logged(stage="evaluate after", step=step, values={"total": 100_000, "success": 0.25})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[1] == "evaluate after  11/100000  1.0/s  27 h 46 min left  success 25.0%"


def test_a_stage_in_a_hurry_is_told_in_two_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console = ConsoleConfig().build()
    for step in range(19):
        clock.now += 0.01
        console.metrics_logged(stage="evaluate after", step=step, values={"total": 18})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["0/18", "18/18"]


def test_figures_it_does_not_know_are_shown_too(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleConfig().build().metrics_logged(stage="benchmark", step=1, values={"p50_ms": 12.3456, "note": "x"})
    assert capsys.readouterr().err == "benchmark  1  p50_ms 12.35  note x\n"


def test_samples_that_were_replaced_are_shown(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"loss": 1.5, "skipped/bridge_orig": 3.0, "total": 9}
    ConsoleConfig().build().metrics_logged(stage="train", step=1, values=values)
    assert capsys.readouterr().err == "train  1/9  loss 1.500  3 skipped of bridge_orig\n"


def test_a_run_from_start_to_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    observers = Observers([ConsoleConfig().build()])
    observers.tell.run_started(recipe=None, output=Path("runs/x"))
    clock.now += 185
    observers.tell.checkpoint_saved(step=10, path=Path("runs/x/checkpoints/step-000010"))
    observers.tell.artifact_exported(exporter="onnx", path=Path("runs/x/a.onnx"), difference=1.2e-5)
    observers.tell.run_finished(error=None)
    assert capsys.readouterr().err.splitlines() == [
        "saved runs/x/checkpoints/step-000010",
        "onnx: runs/x/a.onnx (largest difference 1.2e-05)",
        "runs/x is complete after 3 min 5 s",
    ]


def test_a_failed_run_is_not_called_complete(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleConfig().build().run_finished(error=RuntimeError("no"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_quiet_is_silent(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "environment":
        monkeypatch.setenv("OPENVLA_QUIET", "1")
    console = ConsoleConfig(quiet=by == "setting").build()
    console.run_started(output=Path("x"))
    console.metrics_logged(stage="train", step=1, values={"total": 1})
    console.checkpoint_saved(path=Path("x"))
    console.run_finished(error=None)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    console = ConsoleConfig().build()
    console.metrics_logged(stage="train", step=100, values={"total": 300, "loss": 2.0})  # a resumed stage
    clock.now += 10
    console.metrics_logged(stage="train", step=300, values={"total": 300, "loss": 1.5, "token_accuracy": 0.5})
    console.checkpoint_saved(path=Path("runs/x/step-000300"))
    console.metrics_logged(stage="evaluate after", step=4, values={"total": 4, "success": 0.75})
    console.metrics_logged(stage="benchmark", step=8, values={"p50_ms": 12.5})
    console.run_finished(error=None)
    shown = terminal.getvalue()
    assert "300/300" in shown
    assert "20.0/s" in shown  # what was done before the run was resumed does not count
    assert "loss 1.500  tokens 50.0%" in shown
    assert "success 75.0%" in shown
    assert "saved runs/x/step-000300" in shown
    assert "benchmark  8  p50_ms 12.5" in shown
