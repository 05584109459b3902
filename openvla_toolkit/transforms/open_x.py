"""The standardisations of Open X-Embodiment's data sets, and the few operations they are made of.

Behaviour of ``prismatic/vla/datasets/rlds/oxe/transforms.py`` (OpenVLA), without TensorFlow. One function per
data set, registered under the name of its component. Legend of shapes: T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.interfaces.transform import Trajectory

__all__ = [
    "STANDARDIZATIONS",
    "binarize",
    "invert",
    "map_leaves",
    "rel2abs",
    "relabel_bridge",
    "standardizes",
]

Floats: TypeAlias = NDArray[np.float32]
Standardization: TypeAlias = Callable[[Trajectory], Trajectory]

STANDARDIZATIONS: dict[str, Standardization] = {}
"""Component name -> function."""


def standardizes(name: str) -> Callable[[Standardization], Standardization]:
    """Register a function under the name of its component."""

    def register(function: Standardization) -> Standardization:
        STANDARDIZATIONS[name] = function
        return function

    return register


@standardizes("bridge-orig")
def bridge_orig(trajectory: Trajectory) -> Trajectory:
    """Drop the all-zero first step, make the gripper binary, take the movement that the robot did make."""
    trajectory = map_leaves(trajectory, lambda leaf: leaf[1:])
    action = trajectory["action"]
    action = np.concatenate([action[:, :6], binarize(action[:, -1])[:, None]], axis=1)
    return _with_bridge_state(relabel_bridge({**trajectory, "action": action}))


@standardizes("fractal")
def fractal(trajectory: Trajectory) -> Trajectory:
    """Join the parts of the action; the gripper tells changes, an absolute state is wanted."""
    parts, observation = trajectory["action"], trajectory["observation"]
    gripper = rel2abs(parts["gripper_closedness_action"][:, 0])[:, None]
    return {
        **trajectory,
        "action": np.concatenate([parts["world_vector"], parts["rotation_delta"], gripper], axis=1),
        "language_instruction": observation["natural_language_instruction"],
    }


@standardizes("libero")
def libero(trajectory: Trajectory) -> Trajectory:
    """Turn the gripper (-1 open, 1 closed) into 1 open, 0 closed; name the parts of the state."""
    action, observation = trajectory["action"], trajectory["observation"]
    gripper = invert(np.clip(action[:, -1:], 0, 1))
    state = observation["state"]
    return {
        **trajectory,
        "action": np.concatenate([action[:, :6], gripper], axis=1),
        "observation": {**observation, "EEF_state": state[:, :6], "gripper_state": state[:, -2:]},
    }


def invert(gripper: Floats) -> Floats:
    """Swap open and closed, for grippers between 0 and 1."""
    inverted: Floats = np.float32(1) - gripper
    return inverted


def binarize(gripper: Floats) -> Floats:
    """Make absolute gripper actions [T] open (1) or closed (0).

    Above 0.95 is open, below 0.05 is closed; what lies between is on its way and takes the value of the next
    decided step. A trailing run that never decides keeps the raw last value.
    """
    result = np.empty_like(gripper)
    carry = gripper[-1] if len(gripper) else np.float32(0)
    for step in range(len(gripper) - 1, -1, -1):
        if gripper[step] > np.float32(0.95):
            carry = np.float32(1)
        elif gripper[step] < np.float32(0.05):
            carry = np.float32(0)
        result[step] = carry
    return result


def rel2abs(gripper: Floats) -> Floats:
    """Turn changes of the gripper [T] (above 0.1 closes, below -0.1 opens) into states (1 open, 0 closed).

    Before the first change the gripper is in the state that the change leaves; without any it is open.
    """
    change = np.where(gripper < np.float32(-0.1), 1, np.where(gripper > np.float32(0.1), -1, 0))
    moves = np.flatnonzero(change)
    initial = -change[moves[0]] if len(moves) else 1
    latest = np.maximum.accumulate(np.where(change != 0, np.arange(len(change)), -1))
    state = np.where(latest >= 0, change[np.maximum(latest, 0)], initial) if len(change) else change
    return (state / 2 + 0.5).astype(np.float32)


def relabel_bridge(trajectory: Trajectory) -> Trajectory:
    """Replace the movement of each action by the change of the state that followed; drops the last step."""
    state = trajectory["observation"]["state"]
    movement = state[1:, :6] - state[:-1, :6]
    shortened = map_leaves(trajectory, lambda leaf: leaf[:-1])
    return {**shortened, "action": np.concatenate([movement, shortened["action"][:, -1:]], axis=1)}


def map_leaves(tree: Trajectory, function: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, Any]:
    """Apply a function to every array of a trajectory."""
    return {
        name: map_leaves(inner, function) if isinstance(inner, Mapping) else function(inner)
        for name, inner in tree.items()
    }


def _with_bridge_state(trajectory: Trajectory) -> Trajectory:
    observation = trajectory["observation"]
    state = observation["state"]
    parts = {"EEF_state": state[:, :6], "gripper_state": state[:, -1:]}
    return {**trajectory, "observation": {**observation, **parts}}
