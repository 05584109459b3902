"""What grippers are told, brought to 1 open, 0 closed. Legend of shapes: T steps."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.transforms.open_x.arrays import Floats

__all__ = ["binarize", "invert", "opened", "rel2abs"]


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


def opened(closed: Floats) -> Floats:
    """Clip how far grippers are closed to 0..1 and return how far they are open."""
    return invert(np.clip(closed, 0, 1))
