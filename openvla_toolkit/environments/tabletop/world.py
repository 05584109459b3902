"""State, kinematics and just enough physics of the tabletop: push, grasp, carry, drop.

Axes: x points away from the robot, y to its left, z up; the table is the plane z = 0. Units: metres, radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

REACH = 0.20
"""Half the side of the square that the gripper may visit."""
CEILING = 0.22
FLOOR = 0.025
"""Lowest height of the finger tips."""
TOP = 0.05
"""Height of every object."""
RADIUS = 0.036
"""Half the width of every object."""
GRASP_RADIUS = 0.03
"""An object whose middle is this near lies between the open fingers."""
CONTACT_RADIUS = RADIUS + 0.02
GRASP_HEIGHT = 0.045
TILT_LIMIT = 0.5


@dataclass
class Thing:
    """An object on the table; ``z`` is the height of its underside."""

    colour: str
    shape: str
    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass
class State:
    """The gripper and everything on the table."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.18
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    open: bool = True
    held: int | None = None
    things: list[Thing] = field(default_factory=list)

    def distance(self, index: int) -> float:
        """Return the horizontal distance from gripper to object ``index``."""
        thing = self.things[index]
        return math.hypot(thing.x - self.x, thing.y - self.y)


def advance(state: State, action: Sequence[float]) -> None:
    """Move ``state`` one step by ``action``: dx, dy, dz, droll, dpitch, dyaw, gripper (1 open, 0 closed)."""
    dx, dy, dz, roll, pitch, yaw, gripper = (float(value) for value in action)
    between = _between_fingers(state)
    state.x, state.y = _clip(state.x + dx, REACH), _clip(state.y + dy, REACH)
    _shove(state, between)
    state.z = min(CEILING, max(_lowest(state), state.z + dz))
    state.roll = _clip(state.roll + roll, TILT_LIMIT)
    state.pitch = _clip(state.pitch + pitch, TILT_LIMIT)
    state.yaw = math.remainder(state.yaw + yaw, math.tau)
    _carry(state, yaw)
    _actuate(state, open_now=gripper >= 0.5)


def _clip(value: float, limit: float) -> float:
    return min(limit, max(-limit, value))


def _between_fingers(state: State) -> set[int]:
    if not state.open or state.z >= TOP:
        return set()
    return {i for i in range(len(state.things)) if state.distance(i) <= GRASP_RADIUS}


def _shove(state: State, between: set[int]) -> None:
    """Let fingers below the objects' tops move whatever they run into."""
    if state.z >= TOP:
        return
    for index in range(len(state.things)):
        if index == state.held:
            continue
        distance = state.distance(index)
        if index in between:
            if distance > GRASP_RADIUS:
                _place(state, index, at=GRASP_RADIUS)
        elif distance < CONTACT_RADIUS:
            _place(state, index, at=CONTACT_RADIUS)
    _separate(state)


def _place(state: State, index: int, *, at: float) -> None:
    thing, distance = state.things[index], state.distance(index)
    ux, uy = (
        ((thing.x - state.x) / distance, (thing.y - state.y) / distance) if distance > 1e-9 else (1.0, 0.0)
    )
    thing.x, thing.y = state.x + at * ux, state.y + at * uy


def _separate(state: State) -> None:
    """Push objects that overlap apart: the one farther from the gripper gives way."""
    order = sorted((i for i in range(len(state.things)) if i != state.held), key=state.distance)
    for near, far in ((a, b) for k, a in enumerate(order) for b in order[k + 1 :]):
        one, other = state.things[near], state.things[far]
        if abs(one.z - other.z) >= TOP:
            continue
        gap = math.hypot(other.x - one.x, other.y - one.y)
        if 1e-9 < gap < 2 * RADIUS:
            scale = 2 * RADIUS / gap
            other.x, other.y = one.x + (other.x - one.x) * scale, one.y + (other.y - one.y) * scale


def _lowest(state: State) -> float:
    """Return the height at which the finger tips meet something: an object's top or the table."""
    lowest = FLOOR if state.held is None else GRASP_HEIGHT - 0.02
    for index, thing in enumerate(state.things):
        if index == state.held or state.distance(index) >= RADIUS + 0.006:
            continue
        straddled = state.open and state.distance(index) <= GRASP_RADIUS
        beside = state.z < TOP and state.distance(index) > GRASP_RADIUS
        if not straddled and not beside:
            lowest = max(lowest, thing.z + TOP + (0.0 if state.held is None else FLOOR))
    return lowest


def _carry(state: State, turned: float) -> None:
    if state.held is not None:
        thing = state.things[state.held]
        thing.x, thing.y, thing.z = state.x, state.y, state.z - FLOOR
        thing.yaw = math.remainder(thing.yaw + turned, math.tau)


def _actuate(state: State, *, open_now: bool) -> None:
    if state.open and not open_now:
        near = [i for i in range(len(state.things)) if state.distance(i) <= GRASP_RADIUS]
        if near and state.z <= GRASP_HEIGHT:
            state.held = min(near, key=state.distance)
            _carry(state, 0.0)
    elif open_now and state.held is not None:
        thing, index = state.things[state.held], state.held
        others = [other for i, other in enumerate(state.things) if i != index and other.shape != "ball"]
        under = [other for other in others if math.hypot(other.x - thing.x, other.y - thing.y) < 0.04]
        thing.z = max((other.z + TOP for other in under), default=0.0)
        state.held = None
    state.open = open_now
