from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.observers import JSONLinesConfig
from openvla_toolkit.observers.jsonl import JSONLines


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_fact_with_numbers_is_one_line(tmp_path: Path) -> None:
    observers = Observers([JSONLinesConfig().build()])
    observers.tell.run_started(recipe=None, output=tmp_path / "run")
    observers.tell.metrics_logged(stage="train", step=10, values={"loss": np.float32(0.5), "total": 20})
    observers.tell.metrics_logged(stage="evaluate after", step=1, values={"success": 1.0})
    first, second = lines_of(tmp_path / "run")
    assert first.pop("time") <= second.pop("time")
    assert first == {"stage": "train", "step": 10, "loss": 0.5, "total": 20}
    assert second == {"stage": "evaluate after", "step": 1, "success": 1.0}
    assert observers.names == ("jsonl",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_null(tmp_path: Path, value: float) -> None:
    writer = JSONLines()
    writer.run_started(output=tmp_path)
    writer.metrics_logged(stage="train", step=1, values={"loss": value})
    assert lines_of(tmp_path)[0]["loss"] is None


def test_a_line_that_a_killed_run_left_unfinished_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "train", "step": 1}\n{"stage": "tra')
    writer = JSONLines()
    writer.run_started(output=tmp_path)
    writer.metrics_logged(stage="train", step=2, values={})
    lines = path.read_text().splitlines()
    assert [json.loads(lines[0])["step"], json.loads(lines[2])["step"]] == [1, 2]
    JSONLines().run_started(output=tmp_path)
    assert path.read_text().splitlines() == lines
