"""A dry run tells what would be trained, and what is missing, without reading or making anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.stages.planning.dry_run import foreseen

SEVEN = {"name": "openvla", "weights": "openvla/openvla-7b"}


def told(recipe: Recipe, processes: int = 1) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in foreseen(recipe, processes))


def trained(policy: dict[str, Any], data: list[Any] | None = None, **train: Any) -> Recipe:
    section = {"engine": {"name": "single", "device": "cpu"}, "steps": 5, "batch": {"total": 8}, **train}
    section.setdefault("optimizer", {"lr": 0.1})
    return Recipe.from_mapping({"output": "x", "policy": policy, "data": data or [], "train": section})


@pytest.mark.parametrize(
    ("policy", "count", "memory"),
    [
        ({}, "7.5 B of 7.54 B parameters", "120 GB: weights 30.2 GB, gradients and optimizer 90 GB"),
        (
            {"lora": {}},
            "109 M of 7.65 B parameters",
            "31.9 GB: weights 30.6 GB, gradients and optimizer 1.31 GB",
        ),
        (
            {"lora": {}, "dtype": "bfloat16", "quantization": "4bit"},
            "109 M of 7.65 B parameters",
            "7.22 GB: weights 5.91 GB, gradients and optimizer 1.31 GB",
        ),
        ({"freeze": "vla-last-layer-train"}, "465 M of 7.54 B parameters", "35.7 GB"),
    ],
    ids=["full", "lora", "qlora", "last-layer"],
)
def test_what_is_trained_of_seven_billion(policy: dict[str, Any], count: str, memory: str) -> None:
    lines = told(trained({**SEVEN, **policy}))
    assert lines["weights"] == "openvla/openvla-7b (not here yet: the run fetches them from the hub)"
    assert lines["trained"].startswith(count)
    assert lines["memory"].startswith(memory)


def test_memory_is_what_the_engine_leaves_on_a_device() -> None:
    """The memory of a plan, without what only a rehearsal tells."""
    averaged = {"optimizer": {"lr": 0.1, "ema": {}}}
    ddp = {"engine": {"name": "ddp", "device": "cpu"}}
    assert told(trained(SEVEN, **ddp), 4)["memory"].startswith("120 GB: weights 30.2 GB, ")
    assert told(trained(SEVEN, **ddp, **averaged), 4)["memory"].startswith("150 GB: weights 30.2 GB, ")
    fsdp = {"engine": {"name": "fsdp", "device": "cpu"}}
    assert told(trained(SEVEN, **fsdp), 4)["memory"].startswith("30 GB: weights 7.54 GB, ")
    away = {"engine": {"name": "fsdp", "device": "cpu", "cpu_offload": True}}
    assert told(trained(SEVEN, **away), 4)["memory"].startswith("0 MB: ")


def test_weights_that_nothing_is_known_of() -> None:
    lines = told(trained({"name": "openvla", "weights": "nobody/nothing"}))
    assert lines["trained"] == "known when the weights are here"
    assert "memory" not in lines


def test_how_a_batch_is_cut() -> None:
    recipe = trained(SEVEN, batch={"total": 64, "per_device": 4})
    assert told(recipe)["steps"] == "5 of 64 samples: 1 process x 4 at a time x 16 passes"
    assert told(recipe, 8)["steps"] == "5 of 64 samples: 8 processes x 4 at a time x 2 passes"
    assert told(trained(SEVEN), 2)["steps"] == "5 of 8 samples: 2 processes x 4 at a time x 1 pass"


def test_data_that_is_there_or_not(dots: None, tmp_path: Path) -> None:
    missing = {"name": "rlds", "root": str(tmp_path / "oxe"), "dataset": "bridge_orig"}
    made = {"name": "demonstrations", "environment": "dots", "root": str(tmp_path), "dataset": "few"}
    data = ["dots-episodes", missing, {**made, "episodes": 2}]
    policy = {"name": "openvla", "weights": "tabletop-tiny"}
    lines = [line.split(maxsplit=1)[1] for line in foreseen(trained(policy, data), 1) if "data." in line]
    assert lines[0] == "data.0 dots-episodes: dots"
    assert lines[1].startswith(f"data.1 rlds bridge_orig: not here: the folder {tmp_path / 'oxe'} does not")
    assert lines[2] == "data.2 demonstrations few: not made yet: the run makes it"
    assert list(tmp_path.glob("few")) == []


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="device 'cuda:99' is not usable here"):
        told(trained(SEVEN, engine={"name": "single", "device": "cuda:99"}))
