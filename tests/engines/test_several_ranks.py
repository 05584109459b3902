"""Two processes under ddp and fsdp have the losses of one, whatever they train, and continue each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.processes import leave
from openvla_toolkit.testing import run_ranks
from tests.engines.several_ranks import CASES, FOLDER, MEASURED, SAVED, Case, made, steps

ROOT = Path(__file__).parents[2]
SINGLE = {"name": "single"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """What one process makes of each kind of policy; its state is where the others find it."""
    leave()  # other tests let an engine meet itself
    base = folder / "base"
    base.mkdir()
    made("whole", folder).save(base)
    kinds = {case.policy: case.engine.get("precision", "fp32") for case in CASES.values()}
    return {
        kind: steps(Case({"name": "single", "precision": precision}, policy=kind), kind, folder)
        for kind, precision in kinds.items()
    }


@pytest.fixture(scope="module")
def together(folder: Path, alone: dict[str, Any]) -> dict[str, Any]:
    """What two processes make of every case."""
    run_ranks(["-m", "tests.engines.several_ranks", str(folder)], count=2, folder=ROOT)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_losses_of_one(
    name: str, together: dict[str, Any], alone: dict[str, Any]
) -> None:
    case = CASES[name]
    expected = alone[case.policy][SAVED if case.begun_by else 0 :]
    bf16 = case.engine.get("precision") == "bf16"
    for found, wanted in zip(together[name], expected, strict=True):
        assert found == pytest.approx(wanted, rel=2e-2 if bf16 else 1e-4)


def test_held_out_samples_without_pictures_keep_no_rank_waiting(
    together: dict[str, Any], alone: dict[str, Any]
) -> None:
    assert together[MEASURED] == pytest.approx(alone["whole"][0][0], rel=1e-4)


@pytest.mark.parametrize(
    "begun_by", ["ddp", "fsdp", "fsdp, hybrid", "fsdp, offloaded", "fsdp, text first", "ddp, text between"]
)
def test_one_process_goes_on_where_two_were(
    begun_by: str, folder: Path, together: dict[str, Any], alone: dict[str, Any]
) -> None:
    policy = CASES[begun_by].policy
    found = steps(Case(SINGLE, policy=policy, begun_by=begun_by), "again", folder)
    for ours, wanted in zip(found, alone[policy][SAVED:], strict=True):
        assert ours == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_one_process_of_an_engine_for_many_takes_steps_without_pictures(
    engine: str, folder: Path, alone: dict[str, Any]
) -> None:
    kind = "whole, text between"
    try:
        found = steps(Case({"name": engine}, policy=kind), f"{engine}, by itself", folder)
    finally:
        leave()
    for ours, wanted in zip(found, alone[kind], strict=True):
        assert ours == pytest.approx(wanted, rel=1e-4)


def test_every_rank_leaves_its_part(folder: Path, together: dict[str, Any]) -> None:
    names = {path.name for path in (folder / FOLDER / "fsdp").iterdir()}
    assert {"random-00000.safetensors", "random-00001.safetensors", "__0_0.distcp", "__1_0.distcp"} <= names
