"""Scenes to be talked about: random tabletops and the sentence that points at everything on them.

The sentence names a colour and, right after it, the cell of the wrist picture where that object lies
("red B three, blue E one"). A small language model learns this binding of word to patch quickly because one
step of attention is enough: the token that must be followed by the place is the word that names the object.
"""

from __future__ import annotations

import math

import numpy as np

from openvla_toolkit.core.types import Turn
from openvla_toolkit.environments.tabletop.drawing import WRIST_OFFSET, WRIST_TANGENT
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.world import TOP, State, Thing

__all__ = ["COLUMNS", "ROWS", "cell", "random_scene", "turns"]

COLUMNS = "ABCDEFGH"
ROWS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
QUESTION = "Where is everything?"
NOTHING = "nothing"
_SPREAD = 0.15
_GAP = 0.09
_MOST_THINGS = 5


def random_scene(world: TabletopWorld, rng: np.random.Generator) -> State:
    """Draw one to five objects and a gripper anywhere above them, open or closed."""
    count = min(int(rng.integers(1, _MOST_THINGS + 1)), len(set(world.colours)))
    colours = rng.permutation(list(dict.fromkeys(world.colours)))[:count]
    state = State(z=float(rng.uniform(0.06, 0.21)), open=bool(rng.random() < 0.6))
    state.x, state.y = rng.uniform(-0.1, 0.1, 2).tolist()
    for colour in colours:
        x, y = _free_place(state, rng)
        shape, yaw = str(rng.choice(world.shapes)), float(rng.uniform(-0.3, 0.3))
        state.things.append(Thing(str(colour), shape, x, y, yaw=yaw))
    return state


def cell(state: State, thing: Thing) -> str | None:
    """Return where the middle of an object lies in the wrist picture (``B three``), or None outside it."""
    half = (state.z + WRIST_OFFSET - 0.8 * TOP) * WRIST_TANGENT  # half of what is seen at the object's height
    right, down = -(thing.y - state.y) / half, -(thing.x - state.x) / half
    if max(abs(right), abs(down)) >= 1:
        return None
    column, row = (int((value + 1) / 2 * len(ROWS)) for value in (right, down))
    return f"{COLUMNS[column]} {ROWS[row]}"


def turns(state: State, rng: np.random.Generator) -> tuple[Turn, Turn]:
    """Return the question and its answer, the objects in random order."""
    places = [(thing.colour, cell(state, thing)) for thing in state.things]
    seen = [f"{colour} {place}" for colour, place in places if place is not None]
    answer = ", ".join(rng.permutation(seen).tolist()) if seen else NOTHING
    return Turn("human", QUESTION), Turn("gpt", answer)


def _free_place(state: State, rng: np.random.Generator) -> tuple[float, float]:
    while True:
        x, y = rng.uniform(-_SPREAD, _SPREAD, 2).tolist()
        if all(math.hypot(x - thing.x, y - thing.y) >= _GAP for thing in state.things):
            return x, y
