"""Conversations about generated scenes."""

from __future__ import annotations

import numpy as np
import pytest

from openvla_toolkit.environments.tabletop.scenes import COLUMNS, ROWS, draw_scene, square
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.world import State, Thing

WORLD = TabletopWorld()


def test_every_object_is_asked_about_at_most_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = draw_scene(WORLD, rng)
        assert 1 <= len(scene.turns) <= WORLD.objects_max
        assert len({turn.question for turn in scene.turns}) == len(scene.turns)
        for turn in scene.turns:
            if turn.question.startswith("where"):
                column, row = turn.answer.split()
                assert column in COLUMNS
                assert row in ROWS
            else:
                assert turn.answer in WORLD.colours


@pytest.mark.parametrize(("share", "word"), [(0.0, "where"), (1.0, "what")])
def test_the_share_of_questions_can_be_chosen(share: float, word: str) -> None:
    rng = np.random.default_rng(1)
    turns = [turn for _ in range(10) for turn in draw_scene(WORLD, rng, share_what=share).turns]
    assert all(turn.question.startswith(word) for turn in turns)


def test_squares_are_named_from_the_top_left_of_the_wrist_view() -> None:
    state = State(z=0.18)
    assert square(state, Thing("red", "cube", 0.18, 0.18)) == "A one"
    assert square(state, Thing("red", "cube", -0.18, -0.18)) == "H eight"
    assert square(state, Thing("red", "cube", 0.0, -0.4)) is None


def test_a_scene_depends_on_its_seed_alone() -> None:
    one, two = (draw_scene(WORLD, np.random.default_rng(7)) for _ in range(2))
    assert one.turns == two.turns
    assert np.array_equal(one.wrist, two.wrist)
    assert np.array_equal(one.primary, two.primary)
