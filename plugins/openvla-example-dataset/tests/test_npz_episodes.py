"""The plugin keeps to the interface, and says what is wrong with a damaged file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openvla_example_dataset import NpzEpisodesConfig

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.testing import DotsRobotConfig, check_dataset, installed

FRAMES = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two episodes of the toolkit's fake robot: 3 state numbers, 3 actions, pictures of 32 pixels."""
    for number in range(2):
        generator = np.random.default_rng(number)
        np.savez_compressed(
            tmp_path / f"episode-{number}.npz",
            images=generator.integers(0, 256, (FRAMES, 32, 32, 3), dtype=np.uint8),
            states=generator.normal(size=(FRAMES, 3)),
            actions=generator.normal(size=(FRAMES, 3)),
            instruction=f"go to dot {number}",
        )
    return tmp_path


def configured(folder: Path) -> NpzEpisodesConfig:
    return NpzEpisodesConfig(root=folder, embodiment=DotsRobotConfig())


def test_it_keeps_to_the_interface(folder: Path) -> None:
    check_dataset(configured(folder))


def test_it_is_found_by_name(folder: Path) -> None:
    from openvla_toolkit import Recipe

    settings = {"name": "npz-episodes", "root": str(folder), "embodiment": "dots-robot"}
    with installed("embodiment", "dots-robot", "openvla_toolkit.testing.fakes.dots:DotsRobotConfig"):
        recipe = Recipe.from_mapping({"output": "runs/x", "data": [settings], "observers": []})
    assert recipe.data == [configured(folder)]


def test_it_reads_what_was_recorded(folder: Path) -> None:
    dataset = configured(folder).build()
    with np.load(folder / "episode-1.npz") as file:
        episode = dataset[1]
        np.testing.assert_allclose(episode.actions, file["actions"], rtol=1e-6)
        np.testing.assert_array_equal(dataset.image(episode.images["primary"][3]), file["images"][3])
    assert list(episode.instructions) == ["go to dot 1"] * FRAMES


def test_the_fingerprint_follows_the_content(folder: Path) -> None:
    before = configured(folder).build().describe().fingerprint
    with np.load(folder / "episode-1.npz") as file:
        arrays = dict(file)
    np.savez(folder / "episode-1.npz", **arrays | {"actions": np.zeros((FRAMES, 3))})
    assert configured(folder).build().describe().fingerprint != before


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"holds no \.npz file"):
        configured(tmp_path).build()


def test_a_damaged_file_is_named(folder: Path) -> None:
    path = folder / "episode-0.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"episode-0\.npz"):
        configured(folder).build().describe()


def test_a_missing_array_is_named(folder: Path) -> None:
    np.savez(folder / "episode-0.npz", actions=np.zeros((FRAMES, 3)))
    with pytest.raises(DataError, match=r"episode-0\.npz, 'states'"):
        configured(folder).build()[0]
