"""The scripted expert: a function of what can be seen, so that a policy without memory can learn it."""

from __future__ import annotations

import math

import numpy as np

from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.tasks import SIDES, Task
from openvla_toolkit.environments.tabletop.world import CONTACT_RADIUS, FLOOR, TOP, State

NEAR = 0.02
TRAVEL = 0.16
CARRY = 0.14


def expert_action(world: TabletopWorld, state: State, task: Task) -> np.ndarray:
    """Return the expert's action ``[7]``, float32, for ``task`` in ``state``."""
    if task.family == "touch":
        move, gripper = _approach(state, *_place(state, task.target), low=TOP), 0.0
    elif task.family == "push":
        move, gripper = _push(state, task), 0.0
    elif state.held == task.target:
        move, gripper = _with_target_in_hand(state, task)
    else:
        move, gripper = _grasp(state, task)
    limit = world.move_limit
    spin = world.turn_limit if task.family == "turn" and state.held == task.target else 0.0
    moved = [min(limit, max(-limit, value)) for value in move]
    return np.array([*moved, 0.0, 0.0, spin, gripper], dtype=np.float32)


def disturbed(
    action: np.ndarray, world: TabletopWorld, rng: np.random.Generator, *, noise: float
) -> np.ndarray:
    """Return ``action`` with its movement disturbed by ``noise`` (standard deviation in units of the limit).

    Executing this while recording the undisturbed action shows a learner how to recover (DART, Laskey et
    al. 2017).
    """
    result: np.ndarray = action.copy()
    shaken = action[:3] + rng.normal(0.0, noise * world.move_limit, 3)
    result[:3] = np.clip(shaken, -world.move_limit, world.move_limit)
    return result


def _place(state: State, index: int) -> tuple[float, float]:
    return state.things[index].x, state.things[index].y


def _approach(state: State, x: float, y: float, *, low: float) -> tuple[float, float, float]:
    """Go to a point along a funnel: the farther away, the higher."""
    error = math.hypot(x - state.x, y - state.y)
    height = min(TRAVEL, low + 3.0 * max(0.0, error - 0.015))
    return x - state.x, y - state.y, height - state.z


def _push(state: State, task: Task) -> tuple[float, float, float]:
    x, y = _place(state, task.target)
    way = SIDES[task.side]
    behind = way * (y - state.y)
    if state.z < TOP and abs(x - state.x) < NEAR and CONTACT_RADIUS - 0.01 < behind < CONTACT_RADIUS + 0.05:
        return x - state.x, way, FLOOR - state.z
    return _approach(state, x, y - way * (CONTACT_RADIUS + 0.022), low=FLOOR)


def _grasp(state: State, task: Task) -> tuple[tuple[float, float, float], float]:
    x, y = _place(state, task.target)
    near = math.hypot(x - state.x, y - state.y) < NEAR
    if state.open and state.held is None and near and state.z < FLOOR + 0.015:
        return (0.0, 0.0, 0.0), 0.0
    return _approach(state, x, y, low=FLOOR), 1.0


def _with_target_in_hand(state: State, task: Task) -> tuple[tuple[float, float, float], float]:
    if task.family == "pick":
        return (0.0, 0.0, 1.0), 0.0
    if task.family == "turn":
        return (0.0, 0.0, 0.0), 0.0
    x, y = _place(state, task.other)
    if state.z < CARRY - 0.04:
        return (0.0, 0.0, 1.0), 0.0
    if math.hypot(x - state.x, y - state.y) < NEAR:
        return (0.0, 0.0, 0.0), 1.0
    return (x - state.x, y - state.y, CARRY - state.z), 0.0
