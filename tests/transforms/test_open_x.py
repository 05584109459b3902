"""The standardisations of Open X-Embodiment agree with OpenVLA's own, value by value."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.core.registry import find, load
from openvla_toolkit.transforms.open_x import STANDARDIZATIONS, binarize, invert, rel2abs, relabel_bridge

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "transforms.json").read_text())
GRIPPERS = hnp.arrays(
    np.float32, st.integers(1, 12), elements=st.sampled_from([-1, -0.1, 0, 0.05, 0.3, 0.5, 0.95, 0.97, 1])
)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, stored in flat.items():
        *folders, name = path.split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})
        dtype = object if stored["dtype"] == "str" else stored["dtype"]
        here[name] = np.array(stored["values"], dtype=dtype).reshape(stored["shape"])
    return tree


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for name in expected:
            assert_equal(found[name], expected[name])
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "case",
    GOLDEN["cases"],
    ids=lambda case: f"{case['transform']}-{next(iter(case['inputs'].values()))['shape'][0]}",
)
def test_trajectories_agree_and_the_argument_is_left_alone(case: dict[str, Any]) -> None:
    transform = load("transform", case["transform"])().build()
    given_ = nested(case["inputs"])
    before = copy.deepcopy(given_)
    assert_equal(transform(given_), nested(case["outputs"]))
    assert_equal(given_, before)


@pytest.mark.parametrize("case", GOLDEN["primitives"])
def test_gripper_operations_agree(case: dict[str, list[float]]) -> None:
    def array(key: str) -> np.ndarray:
        return np.array(case[key], np.float32)

    np.testing.assert_array_equal(binarize(array("binarize_in")), array("binarize_out"))
    np.testing.assert_array_equal(rel2abs(array("rel2abs_in")), array("rel2abs_out"))
    np.testing.assert_array_equal(invert(array("binarize_in")), array("invert_out"))


@given(gripper=GRIPPERS)
def test_binary_grippers_change_only_where_they_are_decided(gripper: np.ndarray) -> None:
    found = binarize(gripper)
    assert found.dtype == np.float32
    decided = (gripper > np.float32(0.95)) | (gripper < np.float32(0.05))
    np.testing.assert_array_equal(found[decided], gripper[decided] > 0.5)
    changes = np.flatnonzero(np.diff(found)) if decided.any() else []
    assert all(decided[step] for step in changes)


@given(gripper=GRIPPERS)
def test_absolute_grippers_are_open_or_closed(gripper: np.ndarray) -> None:
    found = rel2abs(gripper)
    assert found.dtype == np.float32
    assert set(found.tolist()) <= {0.0, 1.0}
    assert all(found[step] == 0 for step in np.flatnonzero(gripper > np.float32(0.1)))
    assert all(found[step] == 1 for step in np.flatnonzero(gripper < np.float32(-0.1)))


def test_nothing_is_an_empty_gripper() -> None:
    assert binarize(np.empty(0, np.float32)).shape == (0,)
    assert rel2abs(np.empty(0, np.float32)).shape == (0,)


@given(state=hnp.arrays(np.float32, (6, 7), elements=st.floats(-4, 4, width=32)))
def test_relabelled_movements_add_up_to_the_way_that_was_gone(state: np.ndarray) -> None:
    trajectory = {
        "observation": {"state": state},
        "action": np.ones((6, 7), np.float32),
        "kept": np.arange(6),
    }
    found = relabel_bridge(trajectory)
    np.testing.assert_allclose(found["action"][:, :6].sum(axis=0), state[-1, :6] - state[0, :6], atol=1e-4)
    assert np.all(found["action"][:, 6] == 1)
    assert found["kept"].tolist() == [0, 1, 2, 3, 4]


def test_every_standardisation_is_a_component() -> None:
    assert set(STANDARDIZATIONS) <= set(find("transform"))
