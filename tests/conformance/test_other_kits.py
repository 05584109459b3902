"""Another kit of the same layout runs with no change of code, and a wrong value in it is found."""

from __future__ import annotations

import io
import os
import re
import shutil
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


@pytest.mark.slow
def test_wrong_values_of_training_are_found(other: Path, tmp_path: Path) -> None:
    """A rate off by a millionth, a layer that gets no adapter, a loss that is told wrong."""
    folder = tmp_path / "wrong"
    shutil.copytree(other, folder)
    edit(folder / "training" / "lr_schedules.json", lambda runs: _scale(runs[0]["lr_used_at_step"], 2))
    edit(folder / "training" / "lr_schedules.json", _decay_a_bias)
    edit(folder / "lora" / "all_linear_targets.json", lambda content: content[MODEL]["trainable"].pop())
    edit(
        folder / "training" / "metrics_jsonl.json",
        lambda content: [lines[-1].update({"VLA Train/Loss": 9.0}) for lines in content["files"].values()],
    )
    modules = [str(FOLDER / f"test_{name}.py") for name in ("schedules", "metrics", "lora_training")]
    result = run_on(folder, *modules)
    assert result.returncode == 1
    failed = set(re.findall(r"FAILED \S+::(\w+)", result.stdout))
    assert failed == {"test_rates", "test_groups", "test_layers_and_sizes", "test_a_line_about_a_step"}
    assert passed(result) > 0


def _decay_a_bias(runs: Any) -> None:
    decaying, plain = runs[1]["groups"]
    decaying["params"].append(plain["params"].pop())


def _scale(rates: list[float], position: int) -> None:
    rates[position] *= 1 + 1e-6


@pytest.mark.parametrize(
    ("array", "test"),
    [
        ("mine-0/0/action", "test_trajectories.py::test_windows_of_actions"),
        ("mine-0/0/observation/pad_mask", "test_trajectories.py::test_windows_of_observations"),
        ("mine-0/0/observation/image_primary/first_frame", "test_trajectories.py::test_first_pictures_pixel"),
    ],
)
def test_a_wrong_sample_is_found(other: Path, array: str, test: str) -> None:
    place = other / "rlds" / "expected" / "trajectories.npz"
    right = place.read_bytes()
    with np.load(place) as file:
        arrays = {name: file[name] for name in file.files}
    wrong = arrays[array].copy()
    wrong.flat[0] = wrong.flat[0] + 3 if wrong.dtype != bool else not wrong.flat[0]
    np.savez(place, **{**arrays, array: wrong})
    module, _, name = test.partition("::")
    result = run_on(other, str(FOLDER / module), "-k", name)
    place.write_bytes(right)
    assert result.returncode == 1, result.stdout[-2000:]
    assert f"{name}" in result.stdout
    assert passed(result) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "array", "test"),
    [
        ("image_ops", "raw/mine/resized", "test_every_level_of_a_stored_picture"),
        ("augment_ops", "9/hue_delta/mine/u8_after_clip", "test_one_operation"),
        ("augment_ops", "seeded/mine", "test_the_whole_chain"),
    ],
)
def test_a_wrong_level_is_found(other: Path, file: str, array: str, test: str) -> None:
    place = other / "rlds" / "expected" / f"{file}.npz"
    right = place.read_bytes()
    with np.load(place) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[array] = arrays[array].copy()
    arrays[array][0, 0, 0] ^= 128
    np.savez(place, **arrays)
    modules = [str(FOLDER / f"test_{name}.py") for name in ("image_operations", "augmentation")]
    result = run_on(other, *modules, "-k", test)
    place.write_bytes(right)
    assert result.returncode == 1, result.stdout[-2000:]
    assert test in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["q01", "std"])
def test_a_wrong_statistic_is_found(other: Path, figure: str) -> None:
    place = other / "rlds" / "expected" / "dataset_statistics.json"
    right = place.read_text()

    def bend(content: Any) -> None:
        next(iter(content.values()))["cached_json"]["action"][figure][0] *= 1 + 1e-5

    edit(place, bend)
    result = run_on(other, str(FOLDER / "test_statistics.py"))
    place.write_text(right)
    assert result.returncode == 1
    assert "test_actions_and_numbers_of_frames" in result.stdout
    assert passed(result) > 0


def test_the_other_kit_has_kinds_that_are_known(other: Path) -> None:
    assert {kind for kind in kinds.kinds(other) if len(kinds.homes(kind)) != 1} == set()


def test_a_kit_is_packed_without_what_waits(tmp_path: Path) -> None:
    for place in ("README.md", "deploy/act_cases.json", "images/outputs_uint8.npz", "images/inputs/0.png"):
        (tmp_path / "kit" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kit" / place).write_bytes(b"{}")
    np.savez(tmp_path / "kit" / "images" / "outputs_uint8.npz", a=np.zeros(1))
    (tmp_path / "kit" / "rlds" / "expected").mkdir(parents=True)
    names = ["tag/0/image/first_frame", "tag/1/image/first_frame", "tag/1/action"]
    arrays = {name: np.zeros(3) for name in names}
    np.savez(tmp_path / "kit" / "rlds" / "expected" / "trajectories.npz", **arrays)
    for name in ("one", "two"):
        trim.pack(tmp_path / "kit", tmp_path / name)
    with tarfile.open(tmp_path / "one") as file:
        places = ["README.md", "images/inputs/0.png", "rlds/expected/trajectories.npz"]
        assert file.getnames() == places
        member = file.extractfile(places[-1])
        assert member is not None
        with np.load(io.BytesIO(member.read())) as thinned:
            assert thinned.files == [names[0], names[2]]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
