"""Sets of robots that move in fewer ways: what they lack is filled with zeros."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import Floats, join, revised, zeros
from openvla_toolkit.transforms.open_x.naming import standardizes

__all__ = [
    "berkeley_gnm",
    "kaist_nonprehensile",
    "language_table",
    "robo_net",
    "stanford_kuka_multimodal",
    "stanford_mask_vit",
    "ucsd_pick_and_place",
    "uiuc_d3field",
]


@standardizes("language_table")
def language_table(trajectory: Trajectory) -> Trajectory:
    """Fill up a movement in the plane, gripper open; the instruction is stored as code points."""
    points = trajectory["observation"]["instruction"]
    texts = ["".join(map(chr, row)).partition("\0")[0].encode() for row in points.tolist()]
    instruction = np.empty(len(texts), dtype=object)
    instruction[:] = texts
    action = trajectory["action"]
    action = join(action, zeros(action, 4), np.ones((len(action), 1)))
    return {**trajectory, "action": action, "language_instruction": instruction}


@standardizes("stanford_kuka_multimodal_dataset_converted_externally_to_rlds")
def stanford_kuka_multimodal(trajectory: Trajectory) -> Trajectory:
    """Fill in a rotation; drop the depth picture's channel axis."""
    depth = trajectory["observation"]["depth_image"][..., 0]
    return revised(
        trajectory, observation={"depth_image": depth}, action=_without_rotation(trajectory["action"], 3)
    )


@standardizes("ucsd_pick_and_place_dataset_converted_externally_to_rlds")
def ucsd_pick_and_place(trajectory: Trajectory) -> Trajectory:
    """Fill in a rotation; name the parts of the state."""
    state = trajectory["observation"]["state"]
    return revised(
        trajectory,
        observation={"eef_state": state[:, :6], "gripper_state": state[:, -1:]},
        action=_without_rotation(trajectory["action"], 3),
    )


@standardizes("robo_net")
def robo_net(trajectory: Trajectory) -> Trajectory:
    """Fill up a hand that turns about one axis, in action and state."""
    return _one_axis(trajectory, state="state")


@standardizes("stanford_mask_vit_converted_externally_to_rlds")
def stanford_mask_vit(trajectory: Trajectory) -> Trajectory:
    """Fill up a hand that turns about one axis, in action and state."""
    return _one_axis(trajectory, state="end_effector_pose")


@standardizes("kaist_nonprehensile_converted_externally_to_rlds")
def kaist_nonprehensile(trajectory: Trajectory) -> Trajectory:
    """Fill in a gripper that the robot does not have; the pose is the end of the state."""
    action, state = trajectory["action"], trajectory["observation"]["state"]
    return revised(
        trajectory, observation={"state": state[:, -7:]}, action=join(action[:, :6], zeros(action, 1))
    )


@standardizes("uiuc_d3field")
def uiuc_d3field(trajectory: Trajectory) -> Trajectory:
    """Fill in rotation and gripper."""
    action = trajectory["action"]
    return {**trajectory, "action": join(action, np.zeros_like(action), zeros(action, 1))}


@standardizes("berkeley_gnm_recon", "berkeley_gnm_cory_hall", "berkeley_gnm_sac_son")
def berkeley_gnm(trajectory: Trajectory) -> Trajectory:
    """Fill up a driving robot: it moves in the plane and turns about one axis."""
    action, observation = trajectory["action"], trajectory["observation"]
    state = join(observation["position"], zeros(observation["state"], 3), observation["yaw"])
    nothing = np.zeros_like(action)
    return revised(
        trajectory, observation={"state": state}, action=join(action, nothing, nothing, zeros(action, 1))
    )


def _one_axis(trajectory: Trajectory, *, state: str) -> Trajectory:
    pose = trajectory["observation"][state]
    return revised(
        trajectory,
        observation={"eef_state": join(pose[:, :4], zeros(pose, 2)), "gripper_state": pose[:, -1:]},
        action=_without_rotation(trajectory["action"], 4, missing=2),
    )


def _without_rotation(action: Floats, moving: int, *, missing: int = 3) -> Floats:
    """Put zeros between the first numbers of an action and its gripper."""
    return join(action[:, :moving], zeros(action, missing), action[:, -1:])
