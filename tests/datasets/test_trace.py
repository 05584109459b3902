from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.datasets.trace import trace, transformed
from openvla_toolkit.interfaces.transform import KEEP, Passed, Trajectory
from openvla_toolkit.transforms import OpenXConfig, SkipIdleConfig


def test_frames_and_samples_are_counted_after_every_transform() -> None:
    recorded: dict[str, Any] = {"action": np.zeros((9, 7)), "observation": {"state": np.zeros((9, 7))}}

    def shorter(trajectory: Trajectory) -> Trajectory:
        return {
            "action": trajectory["action"][2:],
            "observation": {"state": trajectory["observation"]["state"][2:]},
        }

    def rarer(trajectory: Trajectory) -> Trajectory:
        return {**trajectory, KEEP: np.arange(7) < 3}

    settings = [OpenXConfig(dataset="toto"), SkipIdleConfig(threshold=(0.1,))]
    assert trace(recorded, [shorter, rarer], settings) == [
        Passed({}, 9, 9),
        Passed({"name": "open-x", "dataset": "toto"}, 7, 7),
        Passed({"name": "skip-idle", "threshold": [0.1]}, 7, 3),
    ]


def test_the_transform_that_leaves_nothing_is_named() -> None:
    recorded = {"action": np.zeros((1, 7)), "observation": {"state": np.zeros((1, 7))}}
    settings = [OpenXConfig(dataset="toto"), SkipIdleConfig()]

    def without_first(trajectory: Trajectory) -> Trajectory:
        return {
            "action": trajectory["action"][1:],
            "observation": {"state": trajectory["observation"]["state"][1:]},
        }

    complaint = "recorded with 1 frames, of which the transform 'skip-idle' left 0. .*on_error: skip"
    with pytest.raises(DataError, match=complaint):
        transformed(recorded, [dict, without_first], settings)
    empty = without_first(recorded)
    assert len(transformed(empty, [dict, without_first], settings)["action"]) == 0
