from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile, RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.interfaces.transform import Trajectory, TransformConfig
from openvla_toolkit.testing import DotsEpisodesConfig, check_dataset

VIDEOS = ["v2.0 video", "v2.1 video", "v3.0 video"]
IMAGES = ["v2.0 image", "v2.1 image", "v3.0 image"]
SOURCE = DotsEpisodesConfig(episodes=5, dataset="dots")
Copy = Callable[[str], Path]


def opened(root: Path, form: str, **settings: Any) -> Dataset[Episode]:
    if form == "rlds":
        return RLDSConfig(root=root, dataset="dots").build()
    return LeRobotConfig(root=root, **settings).build()


@pytest.mark.parametrize("form", [*VIDEOS, *IMAGES, "rlds"])
def test_every_form_gives_the_same_samples(forms: dict[str, Path], form: str) -> None:
    source, copy = SOURCE.build(), opened(forms[form], form)
    assert len(copy) == len(source) == 5
    assert copy.describe().name == "dots"
    assert copy.describe().robot == source.describe().robot
    for position in range(len(source)):
        told, found = source[position], copy[position]
        np.testing.assert_array_equal(found.actions, told.actions)
        assert told.states is not None
        assert found.states is not None
        np.testing.assert_array_equal(found.states, told.states)
        assert list(found.instructions) == list(told.instructions)
        for camera, addresses in told.images.items():
            assert found.images[camera].dtype.itemsize == 16
            for frame, address in enumerate(addresses):
                stored = source.image(address)
                picture = copy.image(found.images[camera][frame])
                if "video" not in form:
                    assert picture == stored
                else:
                    assert np.abs(decode(picture).astype(int) - decode(stored)).mean() < 6


@pytest.mark.parametrize("form", VIDEOS)
def test_a_video_frame_is_that_very_frame_in_any_order(forms: dict[str, Path], form: str) -> None:
    source, copy = SOURCE.build(), opened(forms[form], form)
    frames = [(position, frame) for position in range(5) for frame in range(len(source[position]))]
    np.random.default_rng(0).shuffle(frames)
    for position, frame in frames:
        addresses = source[position].images["primary"]
        every = np.stack([decode(source.image(address)) for address in addresses]).astype(int)
        picture = decode(copy.image(copy[position].images["primary"][frame])).astype(int)
        distances = np.abs(every - picture).mean(axis=(1, 2, 3))
        assert distances[frame] == distances.min()


@pytest.mark.parametrize("form", ["v2.1 image", "v3.0 video"])
def test_it_keeps_to_the_interface(forms: dict[str, Path], form: str) -> None:
    check_dataset(LeRobotConfig(root=forms[form]))


def test_a_part_of_a_split(forms: dict[str, Path]) -> None:
    part = opened(forms["v3.0 video"], "v3.0", split="train[1:3]")
    assert [episode.name for episode in (part[0], part[1])] == ["episode_000001", "episode_000002"]
    assert len(part) == 2
    with pytest.raises(IndexError):
        part[2]
    with pytest.raises(RecipeError, match="no split 'val'"):
        opened(forms["v3.0 video"], "v3.0", split="val")


def test_another_content_or_setting_is_another_fingerprint(copy: Copy) -> None:
    root = copy("v3.0 image")
    before = opened(root, "v3.0").describe().fingerprint
    assert opened(root, "v3.0").describe().fingerprint == before
    assert opened(root, "v3.0", split="train[:3]").describe().fingerprint != before
    path = sorted(root.glob("data/*/*.parquet"))[0]
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert opened(root, "v3.0").describe().fingerprint != before


def test_a_file_that_is_edited_in_place_has_another_fingerprint(copy: Copy) -> None:
    root = copy("v3.0 video")
    before = opened(root, "v3.0").describe().fingerprint
    path = sorted(root.glob("videos/*/*/*.mp4"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert opened(root, "v3.0").describe().fingerprint != before


def modality(root: Path) -> None:
    content = {
        "state": {"x": {"start": 0, "end": 1}, "rest": {"start": 1, "end": 3}},
        "action": {"grip": {"start": 2, "end": 3}, "move": {"start": 0, "end": 2}},
        "video": {"front": {"original_key": "observation.images.primary"}},
        "annotation": {"human.task_description": {"original_key": "task_index"}},
    }
    (root / "meta" / "modality.json").write_text(json.dumps(content))


def test_modality_names_parts_of_vectors(copy: Copy) -> None:
    root = copy("v2.1 image")
    whole = opened(root, "v2.1")[1]
    modality(root)
    (root / "meta" / "openvla.yaml").unlink()
    settings = {"embodiment": SOURCE.build().describe().robot}
    robot = {"name": "custom", **settings["embodiment"].model_dump(mode="json")}  # type: ignore[union-attr]
    dataset = opened(root, "v2.1", embodiment=robot, instruction="annotation.human.task_description")
    episode = dataset[1]
    assert list(episode.images) == ["front"]
    np.testing.assert_array_equal(episode.actions, whole.actions[:, [2, 0, 1]])
    np.testing.assert_array_equal(episode.states, whole.states)
    assert episode.instructions == whole.instructions
    some = opened(root, "v2.1", embodiment=robot, state=["state.rest", "state.x"])[1]
    assert whole.states is not None
    np.testing.assert_array_equal(some.states, whole.states[:, [1, 2, 0]])


def test_a_set_without_a_known_robot_gives_the_lines_to_paste(copy: Copy) -> None:
    root = copy("v3.0 video")
    (root / "meta" / "openvla.yaml").unlink()
    with pytest.raises(RecipeError, match="which robot was recorded") as caught:
        opened(root, "v3.0")
    assert "primary: {height: 32, width: 32}" in str(caught.value)
    assert "control_hz: 5" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": {"primary": "observation.images.frnt"}}, "cameras.primary: there are no pictures"),
        ({"state": ["observation.stat"]}, "Did you mean 'observation.state'"),
        ({"instruction": "told"}, "instruction: there is no 'told'"),
    ],
)
def test_an_unknown_key_is_named(forms: dict[str, Path], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opened(forms["v3.0 image"], "v3.0", **settings)[0]


def test_vectors_of_another_length_are_refused(forms: dict[str, Path]) -> None:
    with pytest.raises(ContractMismatch, match="the state has 6 numbers"):
        opened(forms["v3.0 image"], "v3.0", state=["observation.state", "observation.state"])[0]


def rewrite(path: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema.remove_metadata()), path)


def nan(columns: dict[str, list[Any]]) -> None:
    columns["action"][1] = [float("nan"), 0.0, 0.0]


def lost(columns: dict[str, list[Any]]) -> None:
    for values in columns.values():
        del values[0]


def nameless(columns: dict[str, list[Any]]) -> None:
    columns["task_index"][0] = 99


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, r"episode_000002.parquet, episode 2, frame 1, 'action': expected finite numbers"),
        (lost, r"episode 2: expected the frames 0 to \d+ of the episode, found \d+ rows"),
        (nameless, r"frame 0, 'task_index': task 99 is not in the list"),
    ],
)
def test_damaged_rows_are_named(
    copy: Copy, change: Callable[[dict[str, list[Any]]], None], message: str
) -> None:
    root = copy("v2.1 image")
    rewrite(root / "data" / "chunk-000" / "episode_000002.parquet", change)
    dataset = opened(root, "v2.1")
    assert len(dataset[1])
    with pytest.raises(DataError, match=message):
        dataset[2]


def test_a_file_without_its_footer_is_named(copy: Copy) -> None:
    root = copy("v2.1 image")
    path = root / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        opened(root, "v2.1")[1]


def test_missing_files_are_named(copy: Copy) -> None:
    root = copy("v2.1 video")
    dataset = opened(root, "v2.1")
    (root / "videos" / "chunk-000" / "observation.images.wrist" / "episode_000001.mp4").unlink()
    with pytest.raises(MissingFile, match=r"episode_000001.mp4 does not exist"):
        dataset.image(dataset[1].images["wrist"][0])
    with pytest.raises(MissingFile, match=r"episode_000001.mp4 does not exist"):
        opened(root, "v2.1").describe()
    with pytest.raises(MissingFile, match=r"the folder .* does not exist"):
        opened(root / "absent", "v2.1")


def test_a_picture_that_lies_beside_the_table(copy: Copy) -> None:
    root = copy("v3.0 image")
    dataset = opened(root, "v3.0")
    address = dataset[0].images["primary"][0]
    stored = dataset.image(address)
    (root / "first.jpg").write_bytes(stored)  # type: ignore[arg-type]
    path = Path(dataset.describe().files[int(address["file"])])

    def outside(columns: dict[str, list[Any]]) -> None:
        columns["observation.images.primary"][0] = {"bytes": None, "path": "first.jpg"}

    rewrite(path, outside)
    again = pickle.loads(pickle.dumps(opened(root, "v3.0")))
    assert again.image(again[0].images["primary"][0]) == stored


def test_records_in_the_table_and_depth_maps_are_left_alone(copy: Copy) -> None:
    root = copy("v3.0 image")
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        said = pa.array([[{"role": "user"}]] * len(table), pa.list_(pa.struct([("role", pa.string())])))
        pq.write_table(table.append_column("language_persistent", said), path)
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["observation.images.wrist"]["info"] = {"is_depth_map": True}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "openvla.yaml").unlink()
    robot = {"name": "custom", **SOURCE.build().describe().robot.model_dump(mode="json")}  # type: ignore[union-attr]
    dataset = opened(root, "v3.0", embodiment=robot)
    assert dataset.describe().cameras == ["primary"]
    np.testing.assert_array_equal(dataset[2].actions, SOURCE.build()[2].actions)


class _LastTwoConfig(TransformConfig):
    name: Literal["last-two"] = "last-two"

    def build(self) -> Callable[[Trajectory], Trajectory]:
        return last_two


def last_two(trajectory: Trajectory) -> Trajectory:
    return {key: values[-2:] for key, values in trajectory.items()}


def test_an_episode_that_transforms_make_empty_is_named(
    forms: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_LastTwoConfig, "build", lambda config: without_frames)
    data = opened(forms["v3.0 image"], "v3.0", transforms=[_LastTwoConfig()])
    complaint = r"\.parquet, episode 3: it was recorded with \d+ frames, .* 'last-two' left 0\."
    with pytest.raises(DataError, match=complaint):
        data[3]


def without_frames(trajectory: Trajectory) -> Trajectory:
    return {key: values[:0] for key, values in trajectory.items()}


def test_transforms_see_every_column_and_the_pictures(forms: dict[str, Path]) -> None:
    plain = opened(forms["v3.0 video"], "v3.0")[3]
    episode = opened(forms["v3.0 video"], "v3.0", transforms=[_LastTwoConfig()])[3]
    np.testing.assert_array_equal(episode.actions, plain.actions[-2:])
    np.testing.assert_array_equal(episode.images["wrist"], plain.images["wrist"][-2:])
