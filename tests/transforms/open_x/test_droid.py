"""DROID: cameras that change places."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.transforms.open_x.droid import droid


def test_about_every_other_trajectory_has_its_cameras_swapped_and_always_the_same() -> None:
    generator = np.random.default_rng(0)
    swapped = []
    for _ in range(40):
        cameras = {f"exterior_image_{side}_left": np.full(3, side) for side in (1, 2)}
        position = {"cartesian_position": np.zeros((3, 6), np.float32)}
        gripper = {"gripper_position": np.zeros((3, 1), np.float32)}
        velocity = {"cartesian_velocity": generator.normal(size=(3, 6)).astype(np.float32)}
        trajectory = {
            "observation": {**cameras, **position, **gripper},
            "action_dict": {**velocity, **gripper},
        }
        first, again = droid(trajectory)["observation"], droid(trajectory)["observation"]
        assert first["exterior_image_1_left"][0] == again["exterior_image_1_left"][0]
        assert {first["exterior_image_1_left"][0], first["exterior_image_2_left"][0]} == {1, 2}
        swapped.append(first["exterior_image_1_left"][0] == 2)
    assert 10 < sum(swapped) < 30
