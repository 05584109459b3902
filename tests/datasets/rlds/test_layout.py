"""Finding a data set on disk, and what its dataset_info.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.rlds.layout import DatasetInfo, locate

INFO = {
    "name": "toy",
    "version": "1.0.0",
    "splits": [{"name": "train", "shardLengths": ["4", "3"], "numBytes": "9"}],
}


def place(folder: Path, content: Any = INFO) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset_info.json").write_text(text)
    return folder


def test_the_newest_version_is_taken(tmp_path: Path) -> None:
    for version in ("0.9.0", "1.10.0", "1.9.0"):
        place(tmp_path / "toy" / version)
    assert locate(tmp_path, dataset="toy").name == "1.10.0"
    assert locate(tmp_path, dataset="toy", version="1.9.0").name == "1.9.0"


def test_any_of_three_folders_may_be_named(tmp_path: Path) -> None:
    folder = place(tmp_path / "toy" / "1.0.0")
    for root in (tmp_path, tmp_path / "toy", folder):
        assert locate(root, dataset="toy") == folder


def test_a_half_written_version_is_not_taken(tmp_path: Path) -> None:
    whole = place(tmp_path / "toy" / "1.0.0")
    (tmp_path / "toy" / ".2.0.0.incomplete-abc").mkdir()
    (tmp_path / "toy" / "2.0.0.incompleteXYZ").mkdir()
    assert locate(tmp_path, dataset="toy") == whole
    (tmp_path / "torn" / ".1.0.0.incomplete-abc").mkdir(parents=True)
    with pytest.raises(MissingFile, match="torn holds no version of the data set"):
        locate(tmp_path, dataset="torn")
    (tmp_path / "toy" / "3.0.0").mkdir()
    with pytest.raises(MissingFile, match=r"3\.0\.0 holds no dataset_info\.json"):
        locate(tmp_path, dataset="toy")


def test_what_is_missing_is_said_with_what_is_there(tmp_path: Path) -> None:
    place(tmp_path / "bridge_orig" / "1.0.0")
    with pytest.raises(MissingFile, match=r"Did you mean 'bridge_orig'\? Folders there: bridge_orig\."):
        locate(tmp_path, dataset="bridge_orgi")
    with pytest.raises(MissingFile, match=r"'openvla data download toto --to .*' fetches it\.$"):
        locate(tmp_path, dataset="toto")
    with pytest.raises(MissingFile, match=r"has no version 2\.0\.0\. There are: 1\.0\.0\."):
        locate(tmp_path, dataset="bridge_orig", version="2.0.0")
    with pytest.raises(MissingFile, match=r"nowhere does not exist\. Set root to the folder that holds toy"):
        locate(tmp_path / "nowhere", dataset="toy")


def test_shards_are_named_by_the_name_inside(tmp_path: Path) -> None:
    info = DatasetInfo.load(place(tmp_path / "renamed" / "1.0.0"))
    assert info.shards == {
        "train": {"toy-train.tfrecord-00000-of-00002": 4, "toy-train.tfrecord-00001-of-00002": 3}
    }
    assert info.sizes == {"train": 7}


def test_a_template_of_its_own_is_followed(tmp_path: Path) -> None:
    template = "{SPLIT}/{DATASET}.{FILEFORMAT}-{SHARD_INDEX}"
    splits = [{"name": "train", "shardLengths": ["4"], "filepathTemplate": template}]
    info = DatasetInfo.load(place(tmp_path, {**INFO, "splits": splits}))
    assert list(info.shards["train"]) == ["train/toy.tfrecord-00000"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not as TFDS writes it: Expecting property name"),
        ({"splits": []}, "there is no key 'name'"),
        ({**INFO, "splits": [{"name": "train"}]}, "there is no key 'shardLengths'"),
        ({**INFO, "splits": [{"name": "train", "shardLengths": ["many"]}]}, "invalid literal"),
        ([], "list indices"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        DatasetInfo.load(place(tmp_path, content))
    assert caught.value.file == tmp_path / "dataset_info.json"
