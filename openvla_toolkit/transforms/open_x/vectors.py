"""Sets whose actions are one vector that is put in order: another rotation, a gripper turned round, a cut."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import Floats, join, revised
from openvla_toolkit.transforms.open_x.grippers import invert, opened
from openvla_toolkit.transforms.open_x.naming import standardizes
from openvla_toolkit.transforms.open_x.rotations import euler_of_quaternion

__all__ = [
    "austin",
    "austin_with_joints",
    "berkeley_fanuc",
    "cmu_play_fusion",
    "cmu_playing_with_food",
    "dlr_edan",
    "furniture_bench",
    "iamlab_pickup_insert",
    "libero",
    "nyu_franka_play",
    "roboset",
    "stanford_hydra",
]


@standardizes(
    "libero_spatial_no_noops",
    "libero_object_no_noops",
    "libero_goal_no_noops",
    "libero_10_no_noops",
    "libero_4_task_suites_no_noops",
)
def libero(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper (-1 open, 1 closed) into 1 open, 0 closed; name the parts of the state."""
    state = trajectory["observation"]["state"]
    return revised(
        trajectory,
        observation={"EEF_state": state[:, :6], "gripper_state": state[:, -2:]},
        action=_gripper_turned(trajectory["action"]),
    )


@standardizes(
    "austin_sailor_dataset_converted_externally_to_rlds", "austin_sirius_dataset_converted_externally_to_rlds"
)
def austin(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper round."""
    return {**trajectory, "action": _gripper_turned(trajectory["action"])}


@standardizes("austin_buds_dataset_converted_externally_to_rlds", "utaustin_mutex")
def austin_with_joints(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper round; the state begins with joints and gripper."""
    return revised(austin(trajectory), observation={"state": trajectory["observation"]["state"][:, :8]})


@standardizes("dlr_edan_shared_control_converted_externally_to_rlds")
def dlr_edan(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper round."""
    action = trajectory["action"]
    return {**trajectory, "action": join(action[:, :6], invert(action[:, -1:]))}


@standardizes("stanford_hydra_dataset_converted_externally_to_rlds")
def stanford_hydra(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper round; take position, Euler angles and gripper out of the state."""
    state = trajectory["observation"]["state"]
    parts = {"eef_state": join(state[:, :3], state[:, 7:10]), "gripper_state": state[:, -3:-2]}
    return revised(dlr_edan(trajectory), observation=parts)


@standardizes("nyu_franka_play_dataset_converted_externally_to_rlds")
def nyu_franka_play(trajectory: Trajectory) -> Trajectory:
    """Cut the hand's movement out of the action, the pose out of the state; drop the depth's channel axis."""
    action, observation = trajectory["action"], trajectory["observation"]
    parts = {key: observation[key][..., 0].astype(np.float32) for key in ("depth", "depth_additional_view")}
    return revised(
        trajectory,
        observation={**parts, "eef_state": observation["state"][:, -6:]},
        action=join(action[:, -8:-2], np.clip(action[:, -2:-1], 0, 1)),
    )


@standardizes("furniture_bench_dataset_converted_externally_to_rlds")
def furniture_bench(trajectory: Trajectory) -> Trajectory:
    """Turn quaternions into Euler angles and the gripper round; the state keeps pose and gripper."""
    action, state = trajectory["action"], trajectory["observation"]["state"]
    return revised(
        trajectory,
        observation={"state": join(state[:, :7], state[:, -1:])},
        action=join(action[:, :3], euler_of_quaternion(action[:, 3:7]), opened(action[:, -1:])),
    )


@standardizes("iamlab_cmu_pickup_insert_converted_externally_to_rlds")
def iamlab_pickup_insert(trajectory: Trajectory) -> Trajectory:
    """Turn quaternions into Euler angles; name the parts of the state."""
    action, state = trajectory["action"], trajectory["observation"]["state"]
    return revised(
        trajectory,
        observation={"joint_state": state[:, :7], "gripper_state": state[:, 7:8]},
        action=join(action[:, :3], euler_of_quaternion(action[:, 3:7]), action[:, 7:8]),
    )


@standardizes("cmu_playing_with_food")
def cmu_playing_with_food(trajectory: Trajectory) -> Trajectory:
    """Turn quaternions into Euler angles."""
    action = trajectory["action"]
    return {
        **trajectory,
        "action": join(action[:, :3], euler_of_quaternion(action[:, 3:7]), action[:, -1:]),
    }


@standardizes("cmu_play_fusion")
def cmu_play_fusion(trajectory: Trajectory) -> Trajectory:
    """Leave out what the action has between position and rotation."""
    action = trajectory["action"]
    return {**trajectory, "action": join(action[:, :3], action[:, -4:])}


@standardizes("berkeley_fanuc_manipulation")
def berkeley_fanuc(trajectory: Trajectory) -> Trajectory:
    """Name the parts of the state; its gripper, turned round, is the action's too."""
    state = trajectory["observation"]["state"]
    parts = {"joint_state": state[:, :6], "gripper_state": state[:, 6:7]}
    return revised(
        trajectory, observation=parts, action=join(trajectory["action"], invert(parts["gripper_state"]))
    )


@standardizes("roboset")
def roboset(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper of joint positions round; call the state by its common name."""
    action = trajectory["action"]
    return revised(
        trajectory,
        observation={"proprio": trajectory["observation"]["state"]},
        action=join(action[:, :7], opened(action[:, -1:])),
    )


def _gripper_turned(action: Floats) -> Floats:
    return join(action[:, :6], opened(action[:, -1:]))
