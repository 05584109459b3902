"""Figures of training: what the original writes about a step is in our line about it, under our names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from openvla_toolkit.core.lockfile import LOCK_NAME, write_lock
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.interfaces.engine import StepReport
from openvla_toolkit.observers.jsonl import METRICS_FILE, JSONLines
from openvla_toolkit.stages.training.meter import Meter
from tests.conformance import kit

FILES: dict[str, Any] = (kit.recorded("training/metrics_jsonl.json") or {}).get("files", {})
RUN = "VLA Train"
NAMES = {"Loss (Raw)": "loss", "L1 Loss": "l1", "Action Token Accuracy": "token_accuracy"}
"""The original's names of what a step reports; of a single data set they stand behind its name."""
ELSEWHERE = {"Step", "Learning Rate", "Loss", "Epoch", "Step Time"}
"""The first three are compared below; a run is counted in steps; times are nobody's to compare."""


def lines() -> list[dict[str, Any]]:
    """Return the original's lines about steps."""
    return [line for entries in FILES.values() for line in entries if f"{RUN}/Step" in line]


def reported(line: dict[str, Any]) -> dict[str, float]:
    """Return what a step reported, under our names: ``l1``, and ``l1/bridge_orig`` of one data set."""
    found = {}
    for key, value in line.items():
        whose, _, name = key.rpartition("/")
        if name in NAMES:
            found[NAMES[name] if whose == RUN else f"{NAMES[name]}/{whose}"] = value
        else:
            assert (whose, name) in {(RUN, other) for other in ELSEWHERE}
    return found


def written(line: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Take a step with these figures and return the line that is written about it."""
    metrics = reported(line)
    report = StepReport(loss=metrics.pop("loss"), grad_norm=1.0, metrics=metrics)
    meter, observer = Meter(), JSONLines()
    meter.add(report, lr=line[f"{RUN}/Learning Rate"], samples=1, seconds=1.0)
    observer.run_started(output=folder)
    observer.metrics_logged(stage="train", step=line[f"{RUN}/Step"], values=meter.flush())
    last: dict[str, Any] = json.loads((folder / METRICS_FILE).read_text().splitlines()[-1])
    return last


@pytest.mark.parametrize("line", lines())
def test_a_line_about_a_step(line: dict[str, Any], tmp_path: Path) -> None:
    found = written(line, tmp_path)
    assert {key: found[key] for key in reported(line)} == reported(line)
    assert found["step"] == line[f"{RUN}/Step"]
    assert found["lr"] == line[f"{RUN}/Learning Rate"]
    assert found["loss"] == line[f"{RUN}/Loss"]


@pytest.mark.parametrize(
    "status", (kit.recorded("training/metrics_jsonl.json") or {}).get("status_strings", [])
)
def test_what_the_status_line_tells(status: str, tmp_path: Path) -> None:
    told = re.search(r"Global Step (\d+) =>> LR :: ([\d.]+)(?: - Loss :: ([\d.]+))?", status)
    assert told
    if told[3] is None:  # before the first step
        assert float(told[2]) == 0
        return
    (line,) = [line for line in lines() if line[f"{RUN}/Step"] == int(told[1])]
    found = written(line, tmp_path)
    assert (f"{found['lr']:.6f}", f"{found['loss']:.4f}") == (told[2], told[3])


@pytest.mark.parametrize("stated", [line["hparams"] for line in FILES.get("run-metrics.jsonl", [])])
def test_the_settings_of_a_run_are_kept(stated: dict[str, Any], tmp_path: Path) -> None:
    train = {"optimizer": {"lr": stated["lr"]}, "steps": 1, "batch": {"total": 1}}
    write_lock(Recipe.from_mapping({"output": str(tmp_path), "train": train}), tmp_path)
    lock = yaml.safe_load((tmp_path / LOCK_NAME).read_text())
    assert lock["train"]["optimizer"]["lr"] == stated["lr"]
