"""Two processes under ddp and fsdp have the losses of one, whatever they train, and continue each other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.several_ranks import CASES, FOLDER, MEASURED, SAVED, Case, made, steps

ROOT = Path(__file__).parents[2]
SINGLE = {"name": "single"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """What one process makes of each kind of policy; its state is where the others find it."""
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.engines.several_ranks", str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
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


@pytest.mark.parametrize("begun_by", ["ddp", "fsdp", "fsdp, hybrid", "fsdp, offloaded"])
def test_one_process_goes_on_where_two_were(
    begun_by: str, folder: Path, together: dict[str, Any], alone: dict[str, Any]
) -> None:
    found = steps(Case(SINGLE, begun_by=begun_by), "again", folder)
    for ours, wanted in zip(found, alone["whole"][SAVED:], strict=True):
        assert ours == pytest.approx(wanted, rel=1e-4)


def test_every_rank_leaves_its_part(folder: Path, together: dict[str, Any]) -> None:
    names = {path.name for path in (folder / FOLDER / "fsdp").iterdir()}
    assert {"random-00000.safetensors", "random-00001.safetensors", "__0_0.distcp", "__1_0.distcp"} <= names
