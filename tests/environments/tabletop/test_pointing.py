"""Sentences that point at everything on a generated table."""

from __future__ import annotations

import numpy as np

from openvla_toolkit.environments.tabletop.pointing import COLUMNS, NOTHING, ROWS, cell, random_scene, turns
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.world import State, Thing

WORLD = TabletopWorld()


def test_the_answer_names_each_visible_object_and_its_cell_once() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        state = random_scene(WORLD, rng)
        answer = turns(state, rng)[1].text
        seen = {thing.colour: cell(state, thing) for thing in state.things}
        expected = {f"{colour} {place}" for colour, place in seen.items() if place is not None}
        assert set(answer.split(", ")) == (expected or {NOTHING})
        assert all(colour in WORLD.colours for colour in seen)


def test_cells_are_counted_from_the_top_left_of_the_wrist_view() -> None:
    state = State(z=0.18)
    assert cell(state, Thing("red", "cube", 0.18, 0.18)) == f"{COLUMNS[0]} {ROWS[0]}"
    assert cell(state, Thing("red", "cube", -0.18, -0.18)) == f"{COLUMNS[7]} {ROWS[7]}"
    assert cell(state, Thing("red", "cube", 0.0, -0.4)) is None


def test_an_empty_view_is_said_to_be_empty() -> None:
    state = State(z=0.18, things=[Thing("red", "cube", 0.0, -0.4)])
    assert turns(state, np.random.default_rng(0))[1].text == NOTHING


def test_a_scene_depends_on_its_seed_alone() -> None:
    one, two, other = (random_scene(WORLD, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert one == two
    assert one != other
