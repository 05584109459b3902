"""Grippers are brought to 1 open, 0 closed as the original does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.transforms.open_x.grippers import binarize, opened, rel2abs

GRIPPERS = hnp.arrays(
    np.float32, st.integers(1, 12), elements=st.sampled_from([-1, -0.1, 0, 0.05, 0.3, 0.5, 0.95, 0.97, 1])
)


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


@given(gripper=GRIPPERS)
def test_what_is_closed_is_not_open(gripper: np.ndarray) -> None:
    found = opened(gripper)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found == 1, gripper <= 0)


def test_nothing_is_an_empty_gripper() -> None:
    assert binarize(np.empty(0, np.float32)).shape == (0,)
    assert rel2abs(np.empty(0, np.float32)).shape == (0,)
