"""The plugin keeps to the interface, and says what is wrong with a damaged file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openvla_example_dataset import NpzEpisodesConfig

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.testing import DotsRobotConfig, check_dataset, installed

FRAMES = 5
CAMERAS = tuple(DotsRobotConfig().cameras)


def record(path: Path, **changes: Any) -> None:
    """Write an episode of the toolkit's fake robot: 3 state numbers, 3 actions, pictures of 32 pixels."""
    generator = np.random.default_rng(len(path.stem))
    pictures = {
        f"{camera}_{frame}": generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        for camera in CAMERAS
        for frame in range(FRAMES)
    }
    arrays = {"states": generator.normal(size=(FRAMES, 3)), "actions": generator.normal(size=(FRAMES, 3))}
    np.savez_compressed(path, **pictures | arrays | {"instruction": f"go to dot {path.stem}"} | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (kitchen := tmp_path / "kitchen").mkdir()
    record(kitchen / "0.npz")
    record(kitchen / "1.npz")
    return kitchen


def configured(folder: Path, **settings: Any) -> NpzEpisodesConfig:
    return NpzEpisodesConfig(root=folder, embodiment=DotsRobotConfig(), **settings)


def test_it_keeps_to_the_interface(folder: Path) -> None:
    moved = Path(shutil.copytree(folder, folder.with_name("office"), copy_function=shutil.copy2))
    check_dataset(configured(folder), others=[configured(folder, cameras=["wrist"]), configured(moved)])


def test_it_is_found_by_name(folder: Path) -> None:
    from openvla_toolkit import Recipe

    settings = {"name": "npz-episodes", "root": str(folder), "embodiment": "dots-robot"}
    with installed("embodiment", "dots-robot", "openvla_toolkit.testing.fakes.dots:DotsRobotConfig"):
        recipe = Recipe.from_mapping({"output": "runs/x", "data": [settings], "observers": []})
    assert recipe.data == [configured(folder)]


def test_its_folders_are_recognised_and_named(folder: Path) -> None:
    found = NpzEpisodesConfig.found_at(folder)
    assert found == NpzEpisodesConfig(root=folder)
    assert found.build().describe().name == "kitchen"
    assert configured(folder, dataset="cups").build().describe().name == "cups"
    assert NpzEpisodesConfig.found_at(folder.parent) is None


def test_it_reads_what_was_recorded(folder: Path) -> None:
    dataset = configured(folder).build()
    with np.load(folder / "1.npz") as file:
        episode = dataset[1]
        np.testing.assert_allclose(episode.actions, file["actions"], rtol=1e-6)
        for camera in CAMERAS:
            np.testing.assert_array_equal(dataset.image(episode.images[camera][3]), file[f"{camera}_3"])
    assert list(episode.instructions) == ["go to dot 1"] * FRAMES


def test_the_fingerprint_follows_the_content(folder: Path) -> None:
    before = configured(folder).build().describe().fingerprint
    record(folder / "1.npz", actions=np.zeros((FRAMES, 3)))
    assert configured(folder).build().describe().fingerprint != before


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"holds no \*\.npz"):
        configured(tmp_path).build()


def test_a_damaged_file_is_named(folder: Path) -> None:
    path = folder / "0.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"0\.npz: it cannot be read"):
        configured(folder).build()[0]


def test_a_missing_array_is_named(folder: Path) -> None:
    np.savez(folder / "0.npz", actions=np.zeros((FRAMES, 3)))
    dataset = configured(folder).build()
    with pytest.raises(DataError, match=r"0\.npz: it cannot be read: .*states"):
        dataset[0]
    with pytest.raises(DataError, match=r"0\.npz, episode 0\.npz, frame 2, 'wrist': .*wrist_2"):
        dataset.image(_address(dataset[1], "wrist", 2))


def _address(episode: Any, camera: str, frame: int) -> Any:
    """Return where the picture would lie in the first file."""
    address = episode.images[camera][frame].copy()
    address["file"] = 0
    return address
