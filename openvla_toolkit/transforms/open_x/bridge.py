"""BridgeData V2, and the sets of other robots that were recorded with its software or after its pattern."""

from __future__ import annotations

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import join, map_leaves, revised, told
from openvla_toolkit.transforms.open_x.grippers import binarize
from openvla_toolkit.transforms.open_x.naming import standardizes

__all__ = ["bridge_orig", "bridge_oxe", "relabel_bridge", "tabletop_franka"]


@standardizes("bridge_oxe")
def bridge_oxe(trajectory: Trajectory) -> Trajectory:
    """Drop the all-zero first step, join the action, take the movement that the robot did make."""
    trajectory = map_leaves(trajectory, lambda leaf: leaf[1:])
    parts = trajectory["action"]
    action = join(parts["world_vector"], parts["rotation_delta"], parts["open_gripper"][:, None])
    joined = {**trajectory, "action": action, "language_instruction": told(trajectory)}
    return _with_state(relabel_bridge(joined))


@standardizes("bridge_orig", "bridge_dataset")
def bridge_orig(trajectory: Trajectory) -> Trajectory:
    """Drop the all-zero first step, make the gripper binary, take the movement that the robot did make."""
    trajectory = map_leaves(trajectory, lambda leaf: leaf[1:])
    return _with_state(relabel_bridge(_with_binary_gripper(trajectory)))


@standardizes(
    "ppgm",
    "ppgm_static",
    "ppgm_wrist",
    "tdroid_carrot_in_bowl",
    "tdroid_pour_corn_in_pot",
    "tdroid_flip_pot_upright",
    "tdroid_move_object_onto_plate",
    "tdroid_knock_object_over",
    "tdroid_cover_object_with_towel",
)
def tabletop_franka(trajectory: Trajectory) -> Trajectory:
    """Make the gripper binary; name the parts of the state."""
    observation = trajectory["observation"]
    parts = {
        "EEF_state": observation["cartesian_position"][:, :6],
        "gripper_state": observation["gripper_position"][:, -1:],
    }
    return revised(_with_binary_gripper(trajectory), observation=parts)


def relabel_bridge(trajectory: Trajectory) -> Trajectory:
    """Replace the movement of each action by the change of the state that followed; drops the last step."""
    state = trajectory["observation"]["state"]
    movement = state[1:, :6] - state[:-1, :6]
    shortened = map_leaves(trajectory, lambda leaf: leaf[:-1])
    return {**shortened, "action": join(movement, shortened["action"][:, -1:])}


def _with_binary_gripper(trajectory: Trajectory) -> Trajectory:
    action = trajectory["action"]
    return {**trajectory, "action": join(action[:, :6], binarize(action[:, -1])[:, None])}


def _with_state(trajectory: Trajectory) -> Trajectory:
    state = trajectory["observation"]["state"]
    return revised(trajectory, observation={"EEF_state": state[:, :6], "gripper_state": state[:, -1:]})
