"""Frames in which nothing moves make no samples."""

from __future__ import annotations

import numpy as np
import pytest

from openvla_toolkit.datasets.rlds.catalog import look_up
from openvla_toolkit.transforms import SkipIdleConfig
from tests.conformance.open_x import Q01, Q99


def test_frames_are_kept_whose_action_exceeds_a_threshold() -> None:
    transform = SkipIdleConfig(threshold=(0.1, 0.2)).build()
    action = np.array([[0, 0, 1], [0.15, 0, 0], [0, -0.15, 0], [0, -0.3, 0]], np.float32)
    found = transform({"action": action})
    assert found["keep"].tolist() == [False, True, False, True]
    again = transform({"action": action, "keep": np.array([True, False, True, True])})
    assert again["keep"].tolist() == [False, False, False, True]


def test_too_short_an_action_is_an_error() -> None:
    with pytest.raises(ValueError, match="skip-idle has 6 thresholds, the action 2 numbers"):
        SkipIdleConfig().build()({"action": np.zeros((1, 2), np.float32)})


def test_the_thresholds_of_droid_drop_what_the_original_drops() -> None:
    entry = look_up("droid")
    assert entry is not None
    assert entry.idle is not None
    transform = SkipIdleConfig(threshold=entry.idle).build()
    scale = np.random.default_rng(0).choice([0, 1e-7, 3e-6, 3e-5, 0.1], (200, 1))
    action = (scale * np.random.default_rng(1).choice([-1, 0, 1], (200, 7))).astype(np.float32)
    low, high = np.array(Q01), np.array(Q99)
    normalised, still = (2 * (one - low) / (high - low + 1e-8) - 1 for one in (action[:, :6], 0))
    found = transform({"action": action})["keep"]
    assert 0 < found.sum() < 200
    np.testing.assert_array_equal(found, (np.abs(normalised - still) > 1e-5).any(axis=1))
