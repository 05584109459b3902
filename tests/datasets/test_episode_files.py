"""What folders with one file per episode have in common, with files of plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingFile, RecipeError
from openvla_toolkit.datasets.episode_files import EpisodeFiles, EpisodeFilesConfig, RecordedEpisode
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig
from openvla_toolkit.testing import DotsRobotConfig, check_dataset


class TextsConfig(EpisodeFilesConfig):
    """Episodes that say only how long they are."""

    pattern: ClassVar[str] = "*.txt"

    name: Literal["texts"] = "texts"
    told: str = "go"
    """What the robot was told."""

    def build(self) -> Texts:
        return Texts(self)


class OwnRobotConfig(TextsConfig):
    """The same, of a robot that the package brings."""

    def robot(self) -> EmbodimentConfig:
        return DotsRobotConfig()


class Texts(EpisodeFiles[TextsConfig]):
    """Reads them."""

    def read(self, path: Path) -> RecordedEpisode:
        frames = int(path.read_text())
        return RecordedEpisode(
            actions=np.ones((frames, 3)), states=np.ones((frames, 3)), instruction=self.config.told
        )

    def picture(self, path: Path, camera: str, frame: int) -> NDArray[np.uint8]:
        if frame >= int(path.read_text()):
            raise KeyError(frame)
        return np.full((32, 32, 3), frame + 10 * list(DotsRobotConfig().cameras).index(camera), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (root := tmp_path / "kitchen").mkdir()
    for name, frames in (("b", 3), ("a", 2)):
        (root / f"{name}.txt").write_text(str(frames))
    return root


def settings(root: Path, **changes: Any) -> TextsConfig:
    return TextsConfig.model_validate({"root": root, "embodiment": DotsRobotConfig(), **changes})


def test_files_become_episodes_in_the_order_of_their_names(folder: Path) -> None:
    dataset = settings(folder).build()
    assert [(episode.name, len(episode)) for episode in (dataset[0], dataset[1])] == [
        ("a.txt", 2),
        ("b.txt", 3),
    ]
    assert dataset[1].instructions == ["go"] * 3
    assert dataset[1].actions.dtype == np.float32
    for number, camera in enumerate(DotsRobotConfig().cameras):
        assert np.all(dataset.image(dataset[1].images[camera][2]) == 10 * number + 2)
    assert dataset.describe().name == "kitchen"
    assert settings(folder, dataset="cups").build().describe().name == "cups"


def test_it_keeps_to_the_interface(folder: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    (other / "a.txt").write_text("2")
    camera = next(iter(DotsRobotConfig().cameras))
    changed = [settings(other), settings(folder, told="stop"), settings(folder, cameras=[camera])]
    check_dataset(settings(folder), others=changed)


def test_what_does_not_change_an_episode_leaves_the_fingerprint(folder: Path) -> None:
    before = settings(folder).build().describe().fingerprint
    assert settings(folder, weight=2.0, on_error="skip").build().describe().fingerprint == before
    (folder / "a.txt").write_text("4")
    assert settings(folder).build().describe().fingerprint != before


def test_folders_are_recognised_by_the_names_of_their_files(folder: Path) -> None:
    assert TextsConfig.found_at(folder) == TextsConfig(root=folder)
    assert TextsConfig.found_at(folder.parent) is None
    assert TextsConfig.found_at(folder / "a.txt") is None


def test_a_package_may_bring_its_robot(folder: Path) -> None:
    assert OwnRobotConfig(root=folder).build().describe().robot == DotsRobotConfig().build()
    with pytest.raises(RecipeError, match="embodiment: give the embodiment"):
        TextsConfig(root=folder).build()


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cameras: the robot has no camera 'wirst', only: "):
        settings(folder, cameras=["wirst"]).build()
    with pytest.raises(MissingFile, match=r"holds no \*\.txt"):
        settings(tmp_path).build()
    dataset = settings(folder).build()
    address = dataset[1].images["wrist"][2]
    (folder / "b.txt").write_text("1")
    with pytest.raises(DataError, match=r"b\.txt, episode b\.txt, frame 2, 'wrist': it cannot be read"):
        dataset.image(address)
    (folder / "b.txt").write_text("torn")
    with pytest.raises(DataError, match=r"b\.txt: it cannot be read: invalid literal"):
        dataset[1]
