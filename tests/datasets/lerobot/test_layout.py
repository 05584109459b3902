from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.lerobot.layout import Feature, load_layout

Copy = Callable[[str], Path]


def test_all_versions_give_one_shape(forms: dict[str, Path]) -> None:
    layouts = {form: load_layout(root) for form, root in forms.items() if form != "rlds"}
    assert {layout.version for layout in layouts.values()} == {"v2.0", "v2.1", "v3.0"}
    for layout in layouts.values():
        assert [episode.index for episode in layout.episodes] == [0, 1, 2, 3, 4]
        assert layout.tasks == layouts["v3.0 video"].tasks
        assert layout.splits == {"train": range(5)}
    firsts = [episode.videos["observation.images.wrist"].first for episode in layouts["v3.0 video"].episodes]
    assert max(firsts) > 0
    assert {
        episode.videos["observation.images.wrist"].first for episode in layouts["v2.1 video"].episodes
    } == {0}


def test_episodes_outside_of_all_splits_are_told(copy: Copy, caplog: pytest.LogCaptureFixture) -> None:
    root = copy("v3.0 image")
    path = root / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": {"train": "0:2", "test": "3:5"}}))
    assert load_layout(root).splits == {"train": range(2), "test": range(3, 5)}
    assert "1 of 5 episodes are in none of its splits and are not read." in caplog.text


def test_tasks_under_the_name_that_pandas_gives_an_unnamed_index(copy: Copy) -> None:
    root = copy("v3.0 image")
    before = load_layout(root).tasks
    path = root / "meta" / "tasks.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.table({"__index_level_0__": table["task"], "task_index": table["task_index"]}), path)
    assert load_layout(root).tasks == before


def test_names_may_be_grouped_and_channels_first(copy: Copy) -> None:
    root = copy("v3.0 image")
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"]["names"] = {"motors": ["a", "b", "c"]}
    info["features"]["observation.state"]["names"] = None
    path.write_text(json.dumps(info))
    layout = load_layout(root)
    assert layout.features["action"].names == ("a", "b", "c")
    assert layout.features["observation.state"].names == ()
    assert Feature("video", (3, 48, 64), ("channels", "height", "width")).size == (48, 64)
    assert Feature("video", (48, 64, 3), ()).size == (48, 64)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("info.json", "{", "info.json: it is not JSON"),
        ("info.json", '{"codebase_version": "v1.6"}', "'codebase_version': its version is v1.6"),
        ("info.json", '{"codebase_version": "v2.1"}', "there is no key 'features'"),
        ("episodes.jsonl", '{"episode_index": 0}', "there is no key 'length'"),
        ("tasks.jsonl", "{}\n{", "there is no key 'task_index'"),
        ("tasks.jsonl", '{"task_index": 0, "task": "x"}\n{', "line 2 is not JSON"),
    ],
)
def test_damaged_meta_data_are_named(copy: Copy, file: str, text: str, message: str) -> None:
    root = copy("v2.1 image")
    (root / "meta" / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_layout(root)


def test_missing_meta_data_are_named(copy: Copy) -> None:
    root = copy("v3.0 image")
    (root / "meta" / "episodes" / "chunk-000" / "file-000.parquet").unlink()
    with pytest.raises(MissingFile, match="no list of episodes"):
        load_layout(root)
    with pytest.raises(MissingFile, match=r"info.json does not exist"):
        load_layout(root / "meta")
