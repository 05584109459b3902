"""The tabletop's physics, expert and tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvla_toolkit.environments.tabletop.expert import disturbed, expert_action
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.tasks import new_scene
from openvla_toolkit.environments.tabletop.world import CEILING, FLOOR, RADIUS, REACH, State, Thing, advance

FAMILIES = ("touch", "push", "pick", "put", "turn")
EVERYTHING = TabletopWorld(
    families=FAMILIES,
    colours=("red", "green", "blue", "yellow", "white", "purple", "orange"),
    shapes=("cube", "cylinder", "ball", "prism"),
)


def _solve(world: TabletopWorld, seed: int, family: str, *, noise: float = 0.0) -> bool:
    rng = np.random.default_rng(seed)
    state, task = new_scene(world, rng, family)
    for _ in range(world.max_steps):
        action = expert_action(world, state, task)
        if noise and rng.random() < 0.5:
            action = disturbed(action, world, rng, noise=noise)
        advance(state, action.tolist())
        if task.succeeded(state):
            return True
    return False


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_solves_every_scene(family: str) -> None:
    assert all(_solve(EVERYTHING, seed, family) for seed in range(100))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_recovers_from_noise(family: str) -> None:
    assert sum(_solve(EVERYTHING, seed, family, noise=0.3) for seed in range(50)) >= 48


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_succeeds_before_the_first_step(family: str) -> None:
    for seed in range(50):
        state, task = new_scene(EVERYTHING, np.random.default_rng(seed), family)
        assert not task.succeeded(state)


@pytest.mark.parametrize("family", FAMILIES)
def test_acting_on_another_object_does_not_succeed(family: str) -> None:
    wins = 0
    for seed in range(40):
        state, task = new_scene(EVERYTHING, np.random.default_rng(seed), family)
        wrong = task.about(next(i for i in range(len(state.things)) if i != task.target))
        for _ in range(EVERYTHING.max_steps):
            advance(state, expert_action(EVERYTHING, state, wrong).tolist())
            if wrong.succeeded(state) or task.succeeded(state):
                break
        wins += task.succeeded(state)
    assert wins <= 4


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), actions=st.lists(st.tuples(*[st.floats(-1.0, 1.0)] * 7), max_size=15))
def test_the_gripper_stays_within_reach(seed: int, actions: list[tuple[float, ...]]) -> None:
    state, _ = new_scene(EVERYTHING, np.random.default_rng(seed), "pick")
    for action in actions:
        advance(state, action)
        assert max(abs(state.x), abs(state.y)) <= REACH
        assert FLOOR <= state.z <= CEILING
        assert state.held is None or not state.open


def test_closing_around_an_object_grasps_it_and_opening_drops_it() -> None:
    state = State(z=FLOOR, things=[Thing("red", "cube", 0.0, 0.0), Thing("blue", "cube", 0.1, 0.0)])
    advance(state, [0, 0, 0, 0, 0, 0, 0])
    advance(state, [0, 0, 0.1, 0, 0, 0.2, 0])
    assert state.held == 0
    assert (state.things[0].z, state.things[0].yaw) == pytest.approx((0.1, 0.2))
    advance(state, [0.1, 0, 0, 0, 0, 0, 0])
    advance(state, [0, 0, 0, 0, 0, 0, 1])
    assert state.held is None
    assert state.things[0].z == pytest.approx(0.05)


def test_closed_fingers_push_what_they_meet() -> None:
    state = State(x=-0.1, z=FLOOR, open=False, things=[Thing("red", "ball", 0.0, 0.0)])
    advance(state, [0.08, 0, 0, 0, 0, 0, 0])
    assert state.things[0].x == pytest.approx(-0.02 + RADIUS + 0.02)


def test_a_scene_depends_on_its_seed_alone() -> None:
    first, second, other = (new_scene(EVERYTHING, np.random.default_rng(seed), "put") for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_settings_that_cannot_make_a_scene_are_refused() -> None:
    with pytest.raises(ValueError, match="at least objects_max different ones"):
        TabletopWorld(colours=("red", "red", "blue"), objects_max=3)
    with pytest.raises(ValueError, match="flat top"):
        TabletopWorld(shapes=("ball",))
