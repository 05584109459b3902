"""Every standardisation of Open X-Embodiment agrees with OpenVLA's own, value by value."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.transforms.open_x.lookup import standardization
from openvla_toolkit.transforms.open_x.naming import STANDARDIZATIONS
from tests.assets.open_x import DATASETS, trajectories

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
    cases = [case for key, case in trajectories().items() if key.split("/")[0] == dataset]
    assert cases
    for given, expected in cases:
        before = copy.deepcopy(given)
        found, wanted = leaves(standardization(dataset)(given)), leaves(expected)
        if dataset == "droid":  # the original throws a coin for the cameras
            found |= {path: wanted[path] for path in wanted if "exterior_image" in path}
        assert_equal(found, wanted, tolerance=1e-5 if dataset in TURNED else 0)
        assert_equal(leaves(given), leaves(before), tolerance=0)


def test_all_data_sets_of_the_original_have_one() -> None:
    assert len(DATASETS) == 73
    added_by_oft = set(STANDARDIZATIONS) - set(DATASETS)
    assert added_by_oft == {
        "libero_4_task_suites_no_noops",
        "aloha1_fold_shorts_20_demos",
        "aloha1_fold_shirt_30_demos",
        "aloha1_scoop_X_into_bowl_45_demos",
        "aloha1_put_X_into_pot_300_demos",
    }
    assert set(DATASETS) <= set(STANDARDIZATIONS)
