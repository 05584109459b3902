"""Whole runs of real components: on data that others wrote, and on the tabletop from start to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from openvla_toolkit import Recipe, load_policy, run
from openvla_toolkit.testing import tiny_policy

GOLDEN = Path(__file__).parent.parent / "golden" / "rlds" / "data"
TRAIN = {
    "engine": {"name": "single", "device": "cpu"},
    "optimizer": {"lr": 1e-3},
    "log_every": 1,
}


def losses(output: Path) -> list[float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["stage"] == "train"]


def test_ten_steps_on_bridge(tmp_path: Path) -> None:
    """A data set that tensorflow-datasets wrote, read through the catalog's card."""
    camera = {"height": 128, "width": 128, "codec": ["jpeg"]}
    data = {
        "name": "rlds",
        "root": str(GOLDEN),
        "dataset": "bridge_orig",
        "cameras": {"primary": "image_0"},
        "embodiment": {"name": "widowx", "cameras": {"primary": camera}},
    }
    recipe = Recipe.from_mapping(
        {
            "output": str(tmp_path / "run"),
            "policy": tiny_policy(cameras=["primary"]),
            "data": [data],
            "train": {**TRAIN, "steps": 10, "batch": {"total": 8}},
            "evaluate": [{"name": "open-loop", "data": data, "frames": 4}],
            "observers": ["jsonl"],
        }
    )
    result = run(recipe)
    curve = losses(recipe.output)
    assert len(curve) == 10
    assert curve[-1] < curve[0]
    policy: Any = load_policy(recipe.output)
    picture = np.zeros((128, 128, 3), dtype=np.uint8)
    action = policy.predict_action(picture, "put the spoon on the towel", unnorm_key="bridge_orig")
    assert action.shape == (7,)
    assert result.summary


def test_from_demonstrations_to_report(tmp_path: Path) -> None:
    """Everything that the quickstart does, in one small go; the lock file says the same again."""
    environment = {"name": "tabletop", "world": {"image_size": 32, "max_steps": 8}}
    recipe = Recipe.from_mapping(
        {
            "output": str(tmp_path / "run"),
            "policy": tiny_policy(),
            "data": [
                {
                    "name": "demonstrations",
                    "environment": {"name": "tabletop", "world": {"image_size": 32}},
                    "root": str(tmp_path),
                    "dataset": "little",
                    "episodes": 4,
                    "workers": 1,
                }
            ],
            "train": {**TRAIN, "steps": 4, "batch": {"total": 8, "per_device": 4}, "save_every": 2},
            "evaluate": [
                {
                    "name": "closed-loop",
                    "environment": environment,
                    "episodes": 4,
                    "swap_probe": 1,
                    "workers": 1,
                    "filmstrips": 1,
                    "before_training": True,
                }
            ],
            "benchmark": {"repeats": 2, "warmup": 0},
            "observers": [{"name": "console", "quiet": True}, "jsonl", "report"],
        }
    )
    result = run(recipe)
    assert list(result.evaluations) == ["before-0-closed-loop", "after-0-closed-loop"]
    assert any("swap probe" in line for line in result.summary)
    page = (recipe.output / "report.html").read_text()
    assert "<svg" in page
    assert "little" in page
    assert Recipe.load(recipe.output / "recipe.lock.yaml") == recipe
