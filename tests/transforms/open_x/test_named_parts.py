"""A state that is packed, or that the reader has unpacked already."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.transforms.open_x.named_parts import kuka
from tests.conformance.open_x import standardized

POSE = "clip_function_input/base_pose_tool_reached"


def test_an_unpacked_state_is_taken_as_it_is() -> None:
    packed, expected = standardized("kuka")[11]
    plain = {key: expected["observation"][key] for key in (POSE, "gripper_closed")}
    found = kuka({**packed, "observation": {**packed["observation"], **plain}})
    for key, values in plain.items():
        np.testing.assert_array_equal(found["observation"][key], values)
