"""The tabletop as a Gymnasium environment, and its pictures."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from openvla_toolkit.environments.tabletop.drawing import draw_primary, draw_wrist
from openvla_toolkit.environments.tabletop.env import TabletopEnv
from openvla_toolkit.environments.tabletop.settings import CameraPose, TabletopWorld
from openvla_toolkit.environments.tabletop.world import State, Thing

VIEWS = ("observation.images.primary", "observation.images.wrist")


def test_gymnasium_accepts_the_environment() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(TabletopEnv(render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.parametrize("family", TabletopWorld().families)
def test_an_episode_of_the_expert_ends_with_success(family: str) -> None:
    env = TabletopEnv()
    observation, info = env.reset(seed=5, options={"family": family})
    assert (info["family"], info["is_success"]) == (family, False)
    done = False
    while not done:
        assert env.observation_space.contains(observation)
        action = env.expert_action()
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    assert (info["is_success"], terminated, reward) == (True, True, 1.0)


def test_the_same_seed_gives_the_same_episode() -> None:
    one, two = TabletopEnv(), TabletopEnv()
    first, second = one.reset(seed=11)[0], two.reset(seed=11)[0]
    for _ in range(4):
        assert first["task"] == second["task"]
        assert all(np.array_equal(first[key], second[key]) for key in (*VIEWS, "observation.state"))
        action = one.expert_action()
        first, second = one.step(action)[0], two.step(action)[0]


@pytest.mark.parametrize("family", TabletopWorld().families)
def test_swap_changes_the_instruction_and_nothing_else(family: str) -> None:
    env = TabletopEnv()
    for seed in range(20):
        plain = env.reset(seed=seed, options={"family": family})[0]
        task, names = env.task, [thing.name for thing in env.state.things]
        swapped = env.reset(seed=seed, options={"family": family, "swap": True})[0]
        assert env.task == task
        assert swapped["task"] != plain["task"]
        assert names[task.target] in plain["task"]
        assert sum(name in swapped["task"] for name in names) == (2 if family == "put" else 1)
        assert all(np.array_equal(plain[view], swapped[view]) for view in VIEWS)


def test_time_runs_out() -> None:
    env = TabletopEnv(TabletopWorld(max_steps=2))
    env.reset(seed=0, options={"family": "put"})
    still = np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32)
    assert env.step(still)[2:4] == (False, False)
    assert env.step(still)[2:4] == (False, True)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match=r"'juggle'.*touch, push, pick, put"):
        TabletopEnv().reset(seed=0, options={"family": "juggle"})


def test_the_pictures_show_the_objects() -> None:
    state = State(x=0.0, y=0.0, things=[Thing("red", "cube", 0.05, 0.0)])
    bare = State(x=0.0, y=0.0)
    primary = draw_primary(state, CameraPose(), size=64), draw_primary(bare, CameraPose(), size=64)
    wrist = draw_wrist(state, size=64), draw_wrist(bare, size=64)
    for picture, background in (primary, wrist):
        changed = (picture != background).any(axis=-1)
        red = (picture[..., 0] > 180) & (picture[..., 1] < 80)
        assert 10 < red.sum() <= changed.sum() < 1000


@pytest.mark.parametrize("shape", ["cube", "cylinder", "ball", "prism"])
def test_the_wrist_view_keeps_left_left_and_front_up(shape: str) -> None:
    def redness(x: float, y: float) -> tuple[float, float]:
        picture = draw_wrist(State(things=[Thing("red", shape, x, y)]), size=64).astype(float)
        rows, columns = np.nonzero((picture[..., 0] > 150) & (picture[..., 1] < 70))
        return float(rows.mean()), float(columns.mean())

    assert redness(0.08, 0.0)[0] < 25 < 39 < redness(-0.08, 0.0)[0]
    assert redness(0.0, 0.08)[1] < 25 < 39 < redness(0.0, -0.08)[1]


def test_another_camera_pose_gives_another_picture_of_the_same_scene() -> None:
    state = State(things=[Thing("blue", "cylinder", 0.05, 0.02)])
    views = [draw_primary(state, CameraPose(azimuth=a), size=64) for a in (0.0, 35.0)]
    assert (views[0] != views[1]).any()


def test_the_world_says_where_the_camera_stands() -> None:
    pose = CameraPose(azimuth=35.0, elevation=60.0)
    env = TabletopEnv(TabletopWorld(camera=pose, image_size=64))
    moved = [env.reset(seed=1)[0], env.step(env.expert_action())[0]]
    usual = TabletopEnv(TabletopWorld(image_size=64)).reset(seed=1)[0]
    assert np.array_equal(moved[1]["observation.images.primary"], draw_primary(env.state, pose, size=64))
    assert (moved[0]["observation.images.primary"] != usual["observation.images.primary"]).any()
    assert np.array_equal(moved[0]["observation.images.wrist"], usual["observation.images.wrist"])


def test_render_shows_the_primary_view() -> None:
    env = TabletopEnv(TabletopWorld(render_size=128))
    env.reset(seed=1)
    picture = env.render()
    assert picture.shape == (128, 128, 3)
    assert np.array_equal(picture, draw_primary(env.state, env.world.camera, size=128))
