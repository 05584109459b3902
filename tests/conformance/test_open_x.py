"""Standardisations of Open X-Embodiment, and what they are made of, value by value."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.statistics import Moments, normalize
from openvla_toolkit.datasets.rlds.catalog import catalog, look_up
from openvla_toolkit.interfaces.transform import KEEP
from openvla_toolkit.transforms.idle import SkipIdle
from openvla_toolkit.transforms.open_x.droid import droid_wrist
from openvla_toolkit.transforms.open_x.grippers import binarize, invert, rel2abs
from openvla_toolkit.transforms.open_x.lookup import standardization
from openvla_toolkit.transforms.open_x.naming import STANDARDIZATIONS
from openvla_toolkit.transforms.open_x.rotations import euler_of_quaternion, matrix_of_euler, rows_of_matrix
from tests.conformance import kit
from tests.conformance.open_x import (
    CASES,
    DATASETS,
    FOLDER,
    Q01,
    Q99,
    Case,
    array,
    standardized,
    unregistered,
)

PRIMITIVES = CASES.get("primitives", {})
NORMALIZED = CASES.get("normalize_action_and_proprio", [])
FILTERED = CASES.get("droid_zero_action_filter", [])
CONFIGS = CASES.get("dataset_configs", {})
ENCODINGS = {"-1": "NONE", "1": "POS_EULER", "2": "POS_QUAT", "3": "JOINT", "4": "JOINT_BIMANUAL"}
ACTIONS = {"1": "EEF_POS", "2": "JOINT_POS", "3": "JOINT_POS_BIMANUAL", "4": "EEF_R6"}
TURNED = {
    "furniture_bench_dataset_converted_externally_to_rlds",
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds",
    "cmu_playing_with_food",
}
"""Quaternions become Euler angles: TensorFlow's own arc functions differ in the last bits."""


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in tree.items():
        path = f"{prefix}{name}"
        flat |= leaves(inner, f"{path}|") if isinstance(inner, Mapping) else {path: inner}
    return flat


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any], *, tolerance: float) -> None:
    assert set(found) == set(expected)
    for path, wanted in expected.items():
        assert found[path].dtype == wanted.dtype, path
        if tolerance and path == "action":
            np.testing.assert_allclose(found[path], wanted, atol=tolerance, err_msg=path)
        else:
            np.testing.assert_array_equal(found[path], wanted, err_msg=path)


@pytest.mark.parametrize("dataset", DATASETS)
def test_trajectories_agree_and_the_argument_is_left_alone(dataset: str) -> None:
    tossed = "random" in CASES["transforms"][dataset]  # a coin for the cameras
    assert standardized(dataset)
    for given, expected in standardized(dataset).values():
        before = copy.deepcopy(given)
        found, wanted = leaves(standardization(dataset)(given)), leaves(expected)
        if tossed:
            cameras = [path for path in wanted if "exterior_image" in path]
            assert {tuple(found[path]) for path in cameras} == {tuple(wanted[path]) for path in cameras}
            found |= {path: wanted[path] for path in cameras}
        assert_equal(found, wanted, tolerance=1e-5 if dataset in TURNED else 0)
        assert_equal(leaves(given), leaves(before), tolerance=0)


@pytest.mark.parametrize("dataset", DATASETS)
def test_sets_that_share_a_function_share_ours(dataset: str) -> None:
    for other in CASES["transforms"][dataset]["function_shared_with"]:
        assert STANDARDIZATIONS[other] is STANDARDIZATIONS[dataset]


@pytest.mark.parametrize("name", CASES.get("extra", {}))
def test_movements_in_the_frame_of_the_wrist(name: str) -> None:
    assert name.startswith("droid_wristact")
    for given, expected in unregistered(name).values():
        found = droid_wrist(given)
        np.testing.assert_allclose(found["action"], expected["action"], atol=1e-6)
        np.testing.assert_array_equal(found["observation"]["proprio"], expected["observation"]["proprio"])


@pytest.mark.parametrize("name", PRIMITIVES)
def test_grippers(name: str) -> None:
    arrays = {key: np.array(values, np.float32) for key, values in PRIMITIVES[name].items()}
    np.testing.assert_array_equal(binarize(arrays["binarize_in"]), arrays["binarize_out"])
    np.testing.assert_array_equal(rel2abs(arrays["rel2abs_in"]), arrays["rel2abs_out"])
    np.testing.assert_array_equal(invert(arrays["binarize_in"]), arrays["invert_out"])


@pytest.mark.parametrize("number", range(len(NORMALIZED)))
@pytest.mark.parametrize("vector", ["action", "proprio"])
def test_normalised_vectors(number: int, vector: str) -> None:
    case = NORMALIZED[number]
    moments = Moments.from_json(case["statistics"][vector], place=vector)
    values, expected = (array(f"{case['prefix']}{vector}{end}") for end in ("", "_out"))
    found = normalize(values, moments, Normalization(method=case["type"]))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("number", range(len(FILTERED)))
def test_frames_without_movement(number: int) -> None:
    """Ours are told apart before they are normalised, by the thresholds in the catalog."""
    entry = look_up("droid")
    assert entry is not None
    assert entry.idle is not None
    low, high = np.array(Q01), np.array(Q99)
    action = np.array(FILTERED[number]["action"], dtype=np.float64)
    action[:, :6] = (action[:, :6] + 1) / 2 * (high - low + 1e-8) + low
    kept = SkipIdle(entry.idle)({"action": action})[KEEP]
    assert kept.tolist() == [FILTERED[number]["keep"]]


@pytest.mark.parametrize("dataset", CONFIGS)
def test_what_the_catalog_knows_of_a_data_set(dataset: str) -> None:
    told, ours = CONFIGS[dataset], catalog()[dataset]

    def there(keys: dict[str, str | None]) -> dict[str, str]:
        return {camera: key for camera, key in keys.items() if key is not None}

    assert ours.cameras == there(told["image_obs_keys"])
    assert ours.depth == there(told["depth_obs_keys"])
    assert ours.state == told["state_obs_keys"]
    assert ours.state_encoding == ENCODINGS[told["state_encoding"]]
    assert ours.action_encoding == ACTIONS[told["action_encoding"]]


ARRAYS = kit.arrays(f"{FOLDER}/arrays.npz")


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() & {"droid/euler_to_rmat"}))
def test_rotations_of_droid(name: str) -> None:
    pose, velocity = array("droid/pose"), array("droid/velocity")
    turn = array(name)
    np.testing.assert_allclose(matrix_of_euler(pose[:, 3:6]), turn, atol=1e-6)
    np.testing.assert_allclose(matrix_of_euler(array("droid/rmat_to_euler")), turn, atol=1e-5)
    given = {
        "action_dict": {"cartesian_velocity": velocity, "gripper_position": np.zeros((len(pose), 1))},
        "observation": {
            "cartesian_position": pose,
            "gripper_position": np.zeros((len(pose), 1)),
            "exterior_image_1_left": np.zeros(len(pose)),
            "exterior_image_2_left": np.zeros(len(pose)),
        },
    }
    np.testing.assert_allclose(droid_wrist(given)["action"][:, :9], array("droid/wrist_action"), atol=1e-6)
    assert rows_of_matrix(turn).shape == (len(pose), 6)


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() & {"euler_from_quaternion"}))
def test_angles_of_quaternions(name: str) -> None:
    np.testing.assert_allclose(euler_of_quaternion(array("quat_xyzw")), array(name), atol=1e-5)


def test_every_array_belongs_to_something_that_is_compared() -> None:
    """Arrays are named by what they belong to; a group of another name would be compared nowhere."""
    groups = {name.partition("/")[0] for name in ARRAYS}
    extra = {name.partition(" ")[0] for name in CASES.get("extra", {})}
    assert groups <= {*DATASETS, *extra, "norm", "droid", "quat_xyzw", "euler_from_quaternion"}


def test_a_wrong_value_is_seen() -> None:
    for dataset in DATASETS[:1]:
        case = next(iter(standardized(dataset).values()))
        bent = Case(case.given, {**case.expected, "action": case.expected["action"] + np.float32(1e-3)})
        with pytest.raises(AssertionError, match="action"):
            assert_equal(leaves(standardization(dataset)(bent.given)), leaves(bent.expected), tolerance=1e-5)
