"""Another kit of the same layout runs with no change of code, and a wrong value in it is found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance import kinds, kit, trim
from tests.conformance.mutation import MODEL, edit, mutate

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "other"
    mutate(kit.opened(kit.TRIMMED), folder)
    return folder


def run_on(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite on a kit, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--ignore={__file__}",
        *arguments,
    ]
    environment = {**os.environ, kit.VARIABLE: str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def passed(result: subprocess.CompletedProcess[str]) -> int:
    found = re.search(r"(\d+) passed", result.stdout)
    return int(found[1]) if found else 0


@pytest.mark.slow
def test_other_values_sizes_and_counts_pass(other: Path) -> None:
    result = run_on(other, str(FOLDER))
    assert result.returncode == 0, result.stdout[-4000:]
    assert passed(result) > 100


@pytest.mark.slow
def test_a_wrong_action_is_found(other: Path, tmp_path: Path) -> None:
    place = other / "model" / MODEL / "hf_outputs.json"
    right = place.read_text()

    def bend(content: Any) -> None:
        entry = next(iter(content["cases"][0]["predict_action"].values()))
        entry["action"][0] += 1e-3

    edit(place, bend)
    result = run_on(other, str(FOLDER / "test_policies.py"), "-k", "test_actions")
    place.write_text(right)
    assert result.returncode == 1
    assert f"test_actions[{MODEL}-" in result.stdout
    assert passed(result) > 0


def test_the_other_kit_has_kinds_that_are_known(other: Path) -> None:
    assert {kind for kind in kinds.kinds(other) if len(kinds.homes(kind)) != 1} == set()


def test_a_kit_is_packed_without_what_waits(tmp_path: Path) -> None:
    for place in ("README.md", "deploy/act_cases.json", "images/outputs_uint8.npz", "images/inputs/0.png"):
        (tmp_path / "kit" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kit" / place).write_bytes(b"{}")
    np.savez(tmp_path / "kit" / "images" / "outputs_uint8.npz", a=np.zeros(1))
    for name in ("one", "two"):
        trim.pack(tmp_path / "kit", tmp_path / name)
    with tarfile.open(tmp_path / "one") as file:
        assert file.getnames() == ["README.md", "images/inputs/0.png"]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
