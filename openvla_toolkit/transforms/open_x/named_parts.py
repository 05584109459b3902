"""Sets whose actions are recorded as named parts: movement, rotation and gripper apart from each other."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import Floats, join, revised, told, zeros
from openvla_toolkit.transforms.open_x.grippers import invert, opened, rel2abs
from openvla_toolkit.transforms.open_x.naming import standardizes

__all__ = [
    "bc_z",
    "berkeley_autolab_ur5",
    "berkeley_cable_routing",
    "columbia_pusht",
    "fractal",
    "jaco_play",
    "kuka",
    "rh20t",
    "roboturk",
    "taco_play",
    "toto",
    "viola",
]


@standardizes("fractal20220817_data", "nyu_door_opening_surprising_effectiveness")
def fractal(trajectory: Trajectory) -> Trajectory:
    """Join the action; the gripper tells changes, an absolute state is wanted."""
    return _joined(trajectory, gripper=_from_changes(trajectory))


@standardizes("kuka")
def kuka(trajectory: Trajectory) -> Trajectory:
    """Join the action as ``fractal`` does; unpack the state."""
    observation = trajectory["observation"]
    key = "clip_function_input/base_pose_tool_reached"
    state = {
        key: _unpacked(observation[key], width=7),
        "gripper_closed": _unpacked(observation["gripper_closed"], width=1),
    }
    return revised(fractal(trajectory), observation=state)


@standardizes("taco_play")
def taco_play(trajectory: Trajectory) -> Trajectory:
    """Take the actions relative to the world; name the parts of the state."""
    state, action = trajectory["observation"]["robot_obs"], trajectory["action"]["rel_actions_world"]
    return revised(
        trajectory,
        observation={"state_eef": state[:, :6], "state_gripper": state[:, 7:8]},
        action=join(action[:, :6], np.clip(action[:, -1:], 0, 1)),
        language_instruction=told(trajectory),
    )


@standardizes("jaco_play")
def jaco_play(trajectory: Trajectory) -> Trajectory:
    """Join an action that never turns the hand; name the parts of the state."""
    state = trajectory["observation"]["end_effector_cartesian_pos"]
    movement = trajectory["action"]["world_vector"]
    return revised(
        trajectory,
        observation={"state_eef": state[:, :6], "state_gripper": state[:, -1:]},
        action=join(movement, np.zeros_like(movement), _from_changes(trajectory)),
        language_instruction=told(trajectory),
    )


@standardizes("berkeley_cable_routing")
def berkeley_cable_routing(trajectory: Trajectory) -> Trajectory:
    """Join an action that never opens the gripper."""
    return _joined(trajectory, gripper=zeros(trajectory["action"]["world_vector"], 1))


@standardizes("roboturk")
def roboturk(trajectory: Trajectory) -> Trajectory:
    """Join the action; turn the gripper round."""
    return _joined(trajectory, gripper=opened(_closedness(trajectory)))


@standardizes("viola")
def viola(trajectory: Trajectory) -> Trajectory:
    """Join the action; turn the gripper, one number per step, round."""
    return _joined(trajectory, gripper=opened(_closedness(trajectory)[:, None]))


@standardizes("berkeley_autolab_ur5")
def berkeley_autolab_ur5(trajectory: Trajectory) -> Trajectory:
    """Join the action from gripper changes; cut the pose out of the state; call the depth by its name."""
    joined = _joined(trajectory, gripper=rel2abs(_closedness(trajectory))[:, None])
    seen = {**joined["observation"], "state": joined["observation"]["robot_state"][:, 6:14]}
    seen["depth"] = seen.pop("image_with_depth")
    return {**joined, "observation": seen}


@standardizes("toto")
def toto(trajectory: Trajectory) -> Trajectory:
    """Join the action; the gripper is told to be open or not."""
    return _joined(trajectory, gripper=trajectory["action"]["open_gripper"][:, None])


@standardizes("columbia_cairlab_pusht_real")
def columbia_pusht(trajectory: Trajectory) -> Trajectory:
    """Join the action with the gripper as it is."""
    return _joined(trajectory, gripper=_closedness(trajectory)[:, None])


@standardizes("bc_z")
def bc_z(trajectory: Trajectory) -> Trajectory:
    """Take the next of the ten recorded waypoints; turn the gripper round."""
    parts = trajectory["action"]
    closed = parts["future/target_close"][:, :1].astype(np.float32)
    action = join(
        parts["future/xyz_residual"][:, :3], parts["future/axis_angle_residual"][:, :3], invert(closed)
    )
    return {**trajectory, "action": action, "language_instruction": told(trajectory)}


@standardizes("rh20t")
def rh20t(trajectory: Trajectory) -> Trajectory:
    """Join pose and gripper of action and state."""
    action, observation = trajectory["action"], trajectory["observation"]
    return revised(
        trajectory,
        observation={"proprio": join(observation["tcp_base"], observation["gripper_width"][..., None])},
        action=join(action["tcp_base"], action["gripper"][:, None]),
    )


def _joined(trajectory: Trajectory, *, gripper: NDArray[Any]) -> dict[str, Any]:
    parts = trajectory["action"]
    action = join(parts["world_vector"], parts["rotation_delta"], gripper)
    return {**trajectory, "action": action, "language_instruction": told(trajectory)}


def _closedness(trajectory: Trajectory) -> Floats:
    closed: Floats = trajectory["action"]["gripper_closedness_action"]
    return closed


def _from_changes(trajectory: Trajectory) -> Floats:
    return rel2abs(_closedness(trajectory)[:, 0])[:, None]


def _unpacked(values: NDArray[Any], *, width: int) -> Floats:
    """Return [T, width] numbers.

    The original's reader leaves zlib-packed tensors packed; a reader that unpacks them gives numbers.
    """
    if values.dtype != object:
        return values.reshape(-1, width).astype(np.float32)
    packed = b"".join(zlib.decompress(value) for value in values)
    return np.frombuffer(packed, np.float32).reshape(-1, width)
