"""Every data set of the catalog is read by its name alone, and gives what OpenVLA gives."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.catalog import catalog, look_up
from openvla_toolkit.datasets.rlds.features import Dataset, Feature, FeaturesDict, Image, Scalar, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import RLDSWriter
from tests.conformance.open_x import DATASETS, standardized

SIZE = (8, 10, 3)
PACKED = {"clip_function_input/base_pose_tool_reached": 7, "gripper_closed": 1}
"""What the set of the Kuka arms stores compressed, and how many numbers are in it."""


WIDTHS = {
    "joint_states": 7,
    "gripper_states": 1,
    "ee_position": 3,
    "ee_orientation": 4,
    "present/xyz": 3,
    "present/axis_angle": 3,
    "present/sensed_close": 1,
    "pose": 7,
    "joint_pos": 7,
    "gripper": 1,
}
"""Numbers in parts of states that the standardisations do not touch, so that the made-up steps lack them."""


def raw_steps(dataset: str) -> dict[str, Any]:
    """Return four steps as the data set would have recorded them, pictures and state included."""
    entry, (given, expected) = catalog()[dataset], standardized(dataset)[4]
    pixels = np.arange(4 * 8 * 10 * 3).astype(np.uint8).reshape(4, *SIZE)
    seen = given.get("observation", {}) | dict.fromkeys(entry.cameras.values(), pixels)
    parts = expected.get("observation", {})
    untouched = [key for key in entry.state if key is not None and key not in parts]
    rest = 8 - sum(1 if key is None else parts[key].shape[1] for key in entry.state if key not in untouched)
    for key in untouched:
        seen[key] = np.ones((4, rest if len(untouched) == 1 else WIDTHS[key]), np.float32)
    told = {"language_instruction": np.array([b"wait"] * 4, dtype=object)}
    return {**told, **given, "observation": seen}


def described(values: Any, key: str) -> tuple[Feature, Any]:
    """Return the feature of an array, or of a mapping of arrays, and the values as the writer takes them."""
    if isinstance(values, Mapping):
        inner = {name: described(one, name) for name, one in values.items()}
        return FeaturesDict({name: pair[0] for name, pair in inner.items()}), {
            name: pair[1] for name, pair in inner.items()
        }
    if values.dtype == object and key in PACKED:
        numbers = [np.frombuffer(zlib.decompress(value), np.float32) for value in values]
        return Tensor((PACKED[key],), "float32", "zlib"), np.stack(numbers)
    if values.dtype == object:
        return Text(), [value.decode() for value in values]
    if values.shape[1:] == SIZE:
        return Image(SIZE), values
    shape = values.shape[1:]
    return (Tensor(shape, str(values.dtype)) if shape else Scalar(str(values.dtype))), values


def write(root: Path, dataset: str) -> None:
    feature, steps = described(raw_steps(dataset), "")
    with RLDSWriter(root, dataset=dataset, features=FeaturesDict({"steps": Dataset(feature)})) as writer:
        writer.write({"steps": steps})


@pytest.mark.parametrize("dataset", [name for name in catalog() if name in DATASETS])
def test_a_data_set_is_read_by_its_name(dataset: str, tmp_path: Path) -> None:
    write(tmp_path, dataset)
    data = RLDSConfig(root=tmp_path, dataset=dataset).build()
    episode, robot = data[0], data.describe().robot
    expected = standardized(dataset)[4][1]["action"]
    np.testing.assert_allclose(episode.actions, expected, atol=1e-5)
    assert robot is not None
    assert episode.actions.shape[1] == len(robot.action)
    assert episode.states is not None
    assert episode.states.shape == (len(expected), len(robot.state))
    for camera in catalog()[dataset].cameras:
        assert (robot.cameras[camera].height, robot.cameras[camera].width) == SIZE[:2]
        assert len(episode.images[camera]) == len(expected)


def test_all_data_sets_of_the_original_are_known() -> None:
    added_by_oft = set(catalog()) - set(DATASETS)
    assert len(catalog()) - len(added_by_oft) == 70
    assert set(DATASETS) - set(catalog()) == {"ppgm", "ppgm_static", "ppgm_wrist"}
    assert len(added_by_oft) == 5


def test_two_arms_have_fourteen_joints_that_are_all_normalised() -> None:
    entry = look_up("aloha1_fold_shirt_30_demos")
    assert entry is not None
    cameras = FeaturesDict({name: Image(SIZE) for name in entry.cameras.values()})
    steps = Dataset(FeaturesDict({"observation": cameras}))
    robot = entry.embodiment(FeaturesDict({"steps": steps}))
    assert len(robot["state"]) == len(robot["action"]) == 14
    assert {(one.reference, one.gripper) for one in robot["action"]} == {("absolute", None)}


def test_a_picture_without_a_size_needs_a_robot() -> None:
    entry = look_up("viola")
    assert entry is not None
    with pytest.raises(RecipeError, match=r"^embodiment: .* the size of 'observation/agentview_rgb' open"):
        entry.embodiment(FeaturesDict({}))
