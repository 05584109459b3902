from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.interfaces.dataset import WritePlan
from openvla_toolkit.testing import DotsEpisodesConfig

SOURCE = DotsEpisodesConfig(episodes=5, dataset="dots")


def lengths() -> list[int]:
    source = SOURCE.build()
    return [len(source[position]) for position in range(5)]


def test_v3_tables_have_one_row_group_per_episode_and_a_running_index(forms: dict[str, Path]) -> None:
    root = forms["v3.0 video"]
    files = sorted(root.glob("data/chunk-000/file-*.parquet"))
    assert len(files) > 1
    groups = [
        pq.ParquetFile(path).metadata.row_group(number).num_rows
        for path in files
        for number in range(pq.ParquetFile(path).num_row_groups)
    ]
    assert groups == lengths()
    index = np.concatenate([pq.read_table(path, columns=["index"])["index"].to_numpy() for path in files])
    np.testing.assert_array_equal(index, np.arange(sum(groups)))
    schema = pq.read_schema(files[0])
    known = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert known["action"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 3,
        "_type": "Sequence",
    }
    assert str(schema.field("action").type) == "fixed_size_list<element: float>[3]"
    assert list(known) == schema.names


def test_v3_meta_data_say_where_every_episode_lies(forms: dict[str, Path]) -> None:
    root = forms["v3.0 video"]
    rows = pq.read_table(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    starts = np.concatenate([[0], np.cumsum(lengths())]).tolist()
    assert [row["dataset_from_index"] for row in rows] == starts[:-1]
    assert [row["dataset_to_index"] for row in rows] == starts[1:]
    key = "videos/observation.images.primary"
    first: dict[int, float] = {}
    for row in rows:
        file = row[f"{key}/file_index"]
        assert row["data/file_index"] == file
        assert row[f"{key}/from_timestamp"] == pytest.approx(first.get(file, 0.0))
        first[file] = row[f"{key}/to_timestamp"]
    info = json.loads((root / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["total_frames"] == sum(lengths())
    assert info["splits"] == {"train": "0:5"}
    assert info["features"]["observation.images.primary"]["info"]["video.codec"] == "h264"


def test_v3_tasks_are_a_pandas_table(forms: dict[str, Path]) -> None:
    table = pq.read_table(forms["v3.0 video"] / "meta" / "tasks.parquet")
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    source = SOURCE.build()
    assert set(table["task"].to_pylist()) == {text for episode in source for text in episode.instructions}


def test_statistics_are_those_of_all_frames(forms: dict[str, Path]) -> None:
    stats = json.loads((forms["v3.0 image"] / "meta" / "stats.json").read_text())
    source = SOURCE.build()
    actions = np.concatenate([source[position].actions for position in range(5)]).astype(np.float64)
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(axis=0))
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0))
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(actions, 0.99, axis=0))
    pictures = np.stack(
        [
            decode(source.image(address))
            for position in range(5)
            for address in source[position].images["wrist"]
        ]
    )
    wrist = stats["observation.images.wrist"]
    values = pictures.reshape(-1, 3) / 255
    np.testing.assert_allclose(np.squeeze(wrist["mean"]), values.mean(axis=0))
    np.testing.assert_allclose(np.squeeze(wrist["std"]), values.std(axis=0))
    np.testing.assert_allclose(np.squeeze(wrist["max"]), values.max(axis=0))
    np.testing.assert_allclose(np.squeeze(wrist["q50"]), np.quantile(values, 0.5, axis=0), atol=1 / 255)
    assert np.shape(wrist["q01"]) == (3, 1, 1)
    assert wrist["count"] == [len(pictures)]


def test_v2_has_a_file_per_episode(forms: dict[str, Path]) -> None:
    root = forms["v2.1 video"]
    assert len(list(root.glob("data/chunk-000/episode_*.parquet"))) == 5
    assert len(list(root.glob("videos/chunk-000/*/episode_*.mp4"))) == 10
    rows = [json.loads(line) for line in (root / "meta" / "episodes.jsonl").read_text().splitlines()]
    assert [row["length"] for row in rows] == lengths()
    told = [json.loads(line) for line in (root / "meta" / "episodes_stats.jsonl").read_text().splitlines()]
    assert told[0]["stats"]["action"]["count"] == [lengths()[0]]
    assert json.loads((root / "meta" / "info.json").read_text())["total_videos"] == 10


def test_a_wrong_setting_is_named() -> None:
    robot = SOURCE.build().describe().robot
    assert robot is not None
    plan = WritePlan(
        name="x",
        robot=robot,
        cameras=[],
        lengths=[1],
        instructions=["go"],
        keeps=False,
        splits={"train": (0, 1)},
        shards=[(0, 1)],
    )
    with pytest.raises(RecipeError, match=r"version: .*v3.0"):
        LeRobotConfig.writer(plan, {"version": "v4"})
    with pytest.raises(RecipeError, match="codecs"):
        LeRobotConfig.writer(plan, {"codecs": "av1"})
