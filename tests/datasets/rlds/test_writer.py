"""The files that are written, and what is left when writing fails."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openvla_toolkit.core.errors import DataError, OpenVLAError, RecipeError, StorageError
from openvla_toolkit.datasets.rlds.card import DatasetCard, load_card
from openvla_toolkit.datasets.rlds.features import FeaturesDict, load_features
from openvla_toolkit.datasets.rlds.tfrecord import open_shard, records
from openvla_toolkit.datasets.rlds.writer import RLDSWriter, sweep_unfinished

if TYPE_CHECKING:
    from conftest import Made


def write(made: Made, features: FeaturesDict) -> None:
    with RLDSWriter(made.root, dataset="new", features=features) as writer:
        for episode in made.train:
            writer.write(episode)


def test_the_layout_is_that_of_tfds(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "dataset_info.json",
        "features.json",
        "openvla.yaml",
        "toy-train.tfrecord-00000-of-00003",
        "toy-train.tfrecord-00001-of-00003",
        "toy-train.tfrecord-00002-of-00003",
        "toy-val.tfrecord-00000-of-00001",
    ]
    assert load_features(made.folder / "features.json") == features
    assert load_card(made.folder / "openvla.yaml") == card
    payloads = {path.name: [len(data) for _, data in records(open_shard(path))] for path in made.shards}
    info = json.loads((made.folder / "dataset_info.json").read_text())
    assert info["splits"][0] == {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": "train",
        "numBytes": str(sum(sum(sizes) for name, sizes in payloads.items() if "train" in name)),
        "shardLengths": [str(len(sizes)) for name, sizes in payloads.items() if "train" in name],
    }
    assert (info["name"], info["version"], info["fileFormat"]) == ("toy", "1.0.0", "tfrecord")


def test_nothing_else_is_left_and_others_may_read_it(made: Made) -> None:
    assert [path.name for path in made.folder.parent.iterdir()] == ["1.0.0"]
    fresh = made.root / "fresh"
    fresh.mkdir()
    assert stat.S_IMODE(made.folder.stat().st_mode) == stat.S_IMODE(fresh.stat().st_mode)


def test_equal_episodes_give_equal_files(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    with RLDSWriter(made.root / "b", dataset="toy", features=features, card=card, shard_bytes=5000) as writer:
        for episode in made.train:
            writer.write(episode)
    for path in made.shards[:3]:
        assert path.read_bytes() == (made.root / "b" / "toy" / "1.0.0" / path.name).read_bytes()


def test_a_version_that_exists_is_not_touched(made: Made, features: FeaturesDict) -> None:
    with pytest.raises(RecipeError, match=r"1\.0\.0 exists already\. Delete it"):
        RLDSWriter(made.root, dataset="toy", features=features)


def test_an_error_leaves_nothing_behind(made: Made, features: FeaturesDict) -> None:
    def interrupted() -> None:
        with RLDSWriter(made.root, dataset="new", features=features) as writer:
            writer.write(made.train[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((made.root / "new").iterdir()) == []


def test_an_episode_that_does_not_fit_is_named(made: Made, features: FeaturesDict) -> None:
    made.train[0]["steps"]["action"] = [[1.0, 2.0, 3.0]] * 2
    with pytest.raises(DataError, match=r"steps/action.*expected tensor of float32 \[2\]"):
        write(made, features)
    assert list((made.root / "new").iterdir()) == []


def test_a_set_without_episodes_is_refused(tmp_path: Path, features: FeaturesDict) -> None:
    with (
        pytest.raises(DataError, match="no episode was written"),
        RLDSWriter(tmp_path, dataset="new", features=features),
    ):
        pass
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("unwritable", ["train-00000", "features.json", "dataset_info.json"])
def test_a_full_disk_leaves_nothing_behind(
    made: Made, features: FeaturesDict, monkeypatch: pytest.MonkeyPatch, unwritable: str
) -> None:
    real = Path.open

    def on_a_full_disk(path: Path, mode: str = "r", **settings: Any) -> Any:
        return real(Path("/dev/full") if path.name.endswith(unwritable) else path, mode, **settings)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(StorageError, match=r"new/1\.0\.0 cannot be written: No space left on device"):
        write(made, features)
    assert list((made.root / "new").iterdir()) == []


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, features: FeaturesDict) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written: Not a directory") as caught:
        RLDSWriter(tmp_path / "file", dataset="new", features=features)
    assert isinstance(caught.value, OpenVLAError)
    assert caught.value.exit_code == 1


def test_a_version_that_another_process_made_meanwhile_is_left_alone(
    made: Made, features: FeaturesDict, tmp_path: Path
) -> None:
    writer = RLDSWriter(tmp_path, dataset="new", features=features)
    writer.write(made.train[0])
    writer.folder.mkdir()
    (writer.folder / "theirs").touch()
    with pytest.raises(StorageError, match="Another process made it meanwhile") as caught:
        writer.__exit__(None, None, None)
    assert "space" not in str(caught.value)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["1.0.0"]


def test_only_what_dead_processes_left_is_swept(tmp_path: Path, features: FeaturesDict) -> None:
    dead = tmp_path / "new" / ".1.0.0.incomplete-dead"
    dead.mkdir(parents=True)
    writer = RLDSWriter(tmp_path, dataset="new", features=features)
    sweep_unfinished(tmp_path / "new", "1.0.0")
    assert not dead.exists()
    assert len(list((tmp_path / "new").iterdir())) == 1
    writer.__exit__(None, KeyboardInterrupt(), None)
    assert list((tmp_path / "new").iterdir()) == []
