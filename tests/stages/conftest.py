"""A recipe that runs in milliseconds: a linear policy, episodes in memory, figures that are counted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import pytest

from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig

DOTS = {
    "embodiment": {"dots-robot": "openvla_toolkit.testing.fakes.dots:DotsRobotConfig"},
    "environment": {"dots": "openvla_toolkit.testing.fakes.dots:DotsConfig"},
    "dataset": {"dots-episodes": "openvla_toolkit.testing.fakes.dots:DotsEpisodesConfig"},
    "policy": {"dots-linear": "openvla_toolkit.testing.fakes.linear:LinearPolicyConfig"},
}


class CountingConfig(EvaluatorConfig):
    """Counts how often it measures, and tells the first weight it sees."""

    name: Literal["counting"] = "counting"
    episodes: int = 1

    def build(self) -> Any:
        return self

    def evaluate(self, policy: Any, folder: Path, progress: Any) -> Mapping[str, Any]:
        MEASURED.append(self)
        (folder / "episodes.jsonl").write_text("{}\n")
        progress(1, {"total": 1})
        weight = policy.module.weight[0, 0].item()
        return {"summary": [f"weight {weight:.3f}"], "weight": weight}


MEASURED: list[CountingConfig] = []


class MakeRecipe(Protocol):
    def __call__(
        self, output: str = "run", *, train: Any = None, trains: bool = True, **sections: Any
    ) -> Recipe: ...


@pytest.fixture
def dots(install: Any) -> None:
    """Make the fakes known by name, here and in child processes."""
    install("openvla-dots", DOTS)


@pytest.fixture
def make_recipe(dots: None, tmp_path: Path) -> MakeRecipe:
    """Return a recipe that trains for 12 steps on 4 episodes; sections replace its own."""

    def make(output: str = "run", *, train: Any = None, trains: bool = True, **sections: Any) -> Recipe:
        section = {
            "engine": {"name": "single", "device": "cpu"},
            "steps": 12,
            "batch": {"total": 4, "per_device": 2},
            "optimizer": {"lr": 0.01},
            "log_every": 1,
        }
        recipe = {
            "output": str(tmp_path / output),
            "policy": "dots-linear",
            "data": [{"name": "dots-episodes"}],
            "train": {**section, **(train or {})},
            "observers": ["jsonl"],
        }
        if not trains:
            del recipe["train"]
        return Recipe.from_mapping({**recipe, **sections})

    return make


def curve(output: Path) -> dict[int, dict[str, float]]:
    """Return what a run's training logged, by step, without the times; what was taken again counts last."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    times = {"time", "stage", "samples_per_second", "tokens_per_second", "data_wait", "peak_memory_gb"}
    return {
        line["step"]: {key: value for key, value in line.items() if key not in times}
        for line in lines
        if line["stage"] == "train"
    }


@pytest.fixture
def measured() -> list[CountingConfig]:
    """What was measured, in order."""
    MEASURED.clear()
    return MEASURED


@pytest.fixture
def counting() -> type[CountingConfig]:
    """The evaluator that counts."""
    return CountingConfig


@pytest.fixture
def read_curve() -> Any:
    """The function that reads a run's curve."""
    return curve


def _started_by(parent: int) -> set[int]:
    """Return the processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(after_name[1]), []).append(int(place.parent.name))
    found, new = set(), set(children.get(parent, []))
    while new:
        found |= new
        new = {child for one in new for child in children.get(one, [])} - found
    return found


def _until_gone(processes: set[int]) -> None:
    assert len(processes) >= 2, "workers, and what starts or serves them"
    deadline = time.monotonic() + 60
    while left := [one for one in processes if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < deadline, f"processes {left} outlive the run"
        time.sleep(0.05)


@pytest.fixture
def processes() -> SimpleNamespace:
    """``started_by`` tells which processes a process started, ``until_gone`` waits for their end."""
    return SimpleNamespace(started_by=_started_by, until_gone=_until_gone)
