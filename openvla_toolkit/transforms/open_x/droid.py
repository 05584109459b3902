"""DROID: actions are velocities in the base frame, or movements in the frame of the wrist."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import join, revised
from openvla_toolkit.transforms.open_x.grippers import invert
from openvla_toolkit.transforms.open_x.naming import standardizes
from openvla_toolkit.transforms.open_x.rotations import matrix_of_euler, rows_of_matrix

__all__ = ["droid", "droid_finetuning", "droid_wrist"]

LEFT, RIGHT = "exterior_image_1_left", "exterior_image_2_left"


@standardizes("droid")
def droid(trajectory: Trajectory) -> Trajectory:
    """Take velocities as actions, and either outer camera as the first in half of the trajectories."""
    return _cameras_swapped(droid_finetuning(trajectory))


@standardizes("droid_wipe")
def droid_finetuning(trajectory: Trajectory) -> Trajectory:
    """Take velocities as actions; turn the gripper round; join the state."""
    action = trajectory["action_dict"]
    velocity, gripper = action["cartesian_velocity"], invert(action["gripper_position"])
    return _with_state({**trajectory, "action": join(velocity[:, :6], gripper)})


def droid_wrist(trajectory: Trajectory) -> Trajectory:
    """Give actions [T, 10] in the frame of the wrist: movement, rotation as two matrix rows, gripper.

    No data set of the registry uses it (original: ``droid_wristact_dataset_transform``).
    """
    action = trajectory["action_dict"]
    velocity = action["cartesian_velocity"]
    to_wrist = matrix_of_euler(trajectory["observation"]["cartesian_position"][:, 3:6]).swapaxes(1, 2)
    movement = np.einsum("tij,tj->ti", to_wrist, velocity[:, :3])
    turn = to_wrist @ matrix_of_euler(velocity[:, 3:6]) @ to_wrist.swapaxes(1, 2)
    joined = join(movement, rows_of_matrix(turn), action["gripper_position"])
    return _cameras_swapped(_with_state({**trajectory, "action": joined}))


def _with_state(trajectory: Trajectory) -> dict[str, Any]:
    observation = trajectory["observation"]
    proprio = join(observation["cartesian_position"], observation["gripper_position"])
    return revised(trajectory, observation={"proprio": proprio})


def _cameras_swapped(trajectory: Trajectory) -> dict[str, Any]:
    """Swap the outer cameras of every other trajectory.

    The original throws a coin each time; here the actions decide, so that reading twice gives the same.
    """
    observation = trajectory["observation"]
    if zlib.crc32(np.ascontiguousarray(trajectory["action"]).tobytes()) % 2:
        return dict(trajectory)
    return revised(trajectory, observation={LEFT: observation[RIGHT], RIGHT: observation[LEFT]})
