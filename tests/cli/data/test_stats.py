"""``openvla data stats``: a table for people, the original's JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from openvla_toolkit.core.statistics import Statistics

GOLDEN = Path(__file__).parents[2] / "golden" / "rlds" / "data" / "bridge_orig"
Openvla = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path / "cache"))


def test_the_table_names_every_number(openvla: Openvla) -> None:
    code, out, _ = openvla("data", "stats", str(GOLDEN))
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("bridge_orig: ")
    assert lines[2].split() == ["action", "min", "q01", "mean", "std", "q99", "max"]
    assert [line.split()[0] for line in lines[3:10]] == ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    assert [line.endswith("as it is") for line in lines[3:10]] == [False] * 6 + [True]
    assert lines[11].startswith("state")
    assert max(map(len, lines)) <= 90


def test_the_json_is_the_originals_file(openvla: Openvla, tmp_path: Path) -> None:
    path = tmp_path / "new" / "dataset_statistics.json"
    words = ["--read", "split=all", "--json", "--output", str(path)]
    code, out, _ = openvla("data", "stats", str(GOLDEN), *words)
    assert code == 0
    assert json.loads(out) == json.loads(path.read_text())
    assert path.read_text().startswith('{\n  "bridge_orig": {\n    "action": {\n      "mean": [')
    entry = json.loads(out)["bridge_orig"]
    assert Statistics.from_json(entry, place="x").to_json() == entry
    whole = entry["num_trajectories"]
    _, out, _ = openvla("data", "stats", str(GOLDEN), "--json")
    assert json.loads(out)["bridge_orig"]["num_trajectories"] < whole
