"""What may be asked on the tabletop: scenes, instructions and the test of success, per task family."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.world import CONTACT_RADIUS, GRASP_RADIUS, TOP, State, Thing

SPREAD = 0.12
"""Half the side of the square in which objects lie at the start."""
GAP = 0.11
"""Least distance between the middles of two objects at the start."""
PUSH_LENGTH = 0.06
TURN_ANGLE = 0.6

INSTRUCTIONS = {
    "touch": "touch the {target}",
    "push": "push the {target} to the {side}",
    "pick": "pick up the {target}",
    "put": "put the {target} on the {other}",
    "turn": "turn the {target}",
}
SIDES = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class Task:
    """One thing to do: ``target`` and ``other`` are indices into the scene's objects."""

    family: str
    target: int
    other: int
    side: str
    start: Thing
    """The target as it lay at the start."""

    def instruction(self, state: State) -> str:
        """Return the sentence that asks for this task."""
        return INSTRUCTIONS[self.family].format(
            target=state.things[self.target].name, other=state.things[self.other].name, side=self.side
        )

    def succeeded(self, state: State) -> bool:
        """Judge the goal on the state alone, however it was reached."""
        target = state.things[self.target]
        if self.family == "touch":
            return state.distance(self.target) <= GRASP_RADIUS and state.z <= target.z + TOP + 0.012
        if self.family == "push":
            return SIDES[self.side] * (target.y - self.start.y) >= PUSH_LENGTH and state.held is None
        if self.family == "pick":
            return state.held == self.target and target.z >= 0.05
        if self.family == "put":
            other = state.things[self.other]
            above = (
                math.hypot(target.x - other.x, target.y - other.y) < 0.04 and target.z >= other.z + TOP - 1e-6
            )
            return above and state.held != self.target
        return (
            state.held == self.target
            and abs(math.remainder(target.yaw - self.start.yaw, math.tau)) >= TURN_ANGLE
        )

    def about(self, target: int) -> Task:
        """Return the same request about another object; if that was the destination, they change places."""
        return replace(self, target=target, other=self.target if target == self.other else self.other)


def new_scene(world: TabletopWorld, rng: np.random.Generator, family: str) -> tuple[State, Task]:
    """Draw a scene in which a task of ``family`` can be done, and the task."""
    while True:
        state = _draw_state(world, rng)
        task = _draw_task(state, rng, family)
        if _feasible(state, task):
            return state, task


def draw_things(world: TabletopWorld, rng: np.random.Generator, count: int) -> list[Thing]:
    """Draw ``count`` objects of different colours that lie apart from one another."""
    colours = rng.permutation(list(dict.fromkeys(world.colours)))[:count]
    return [
        Thing(str(colour), str(rng.choice(world.shapes)), x, y, yaw=float(rng.uniform(-0.3, 0.3)))
        for colour, (x, y) in zip(colours, _draw_places(rng, count), strict=True)
    ]


def _draw_state(world: TabletopWorld, rng: np.random.Generator) -> State:
    things = draw_things(world, rng, int(rng.integers(world.objects_min, world.objects_max + 1)))
    x, y = rng.uniform(-0.10, 0.10, 2).tolist()
    return State(x=x, y=y, z=float(rng.uniform(0.15, 0.20)), things=things)


def _draw_places(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    places: list[tuple[float, float]] = []
    tries = 0
    while len(places) < count:
        x, y = rng.uniform(-SPREAD, SPREAD, 2).tolist()
        tries += 1
        if all(math.hypot(x - a, y - b) >= GAP for a, b in places):
            places.append((x, y))
        elif tries > 50:
            places, tries = [], 0
    return places


def _draw_task(state: State, rng: np.random.Generator, family: str) -> Task:
    target, other = rng.permutation(len(state.things))[:2].tolist()
    return Task(family, target, other, str(rng.choice(list(SIDES))), replace(state.things[target]))


def _feasible(state: State, task: Task) -> bool:
    if task.family == "put":
        return state.things[task.other].shape != "ball"
    if task.family != "push":
        return True
    target, way = state.things[task.target], SIDES[task.side]
    if way * target.y > SPREAD - PUSH_LENGTH:
        return False
    ends = (target.y - way * (CONTACT_RADIUS + 0.03), target.y + way * PUSH_LENGTH)
    low, high = min(ends), max(ends)
    return not any(
        abs(thing.x - target.x) < 0.085 and low - 0.07 < thing.y < high + 0.07
        for index, thing in enumerate(state.things)
        if index != task.target
    )
