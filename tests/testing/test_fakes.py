"""The fakes are whole: the expert succeeds, the linear policy learns, the tiny policy is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openvla_toolkit import testing
from openvla_toolkit.core.contract import compare
from openvla_toolkit.core.errors import UnknownComponent
from openvla_toolkit.core.registry import load
from openvla_toolkit.testing import DotsConfig, DotsEpisodesConfig, installed, linear_policy, tiny_policy


def test_every_public_name_can_be_had() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    for name in testing.__all__:
        assert callable(getattr(testing, name))
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'check_nothing'"):
        testing.check_nothing  # noqa: B018


@pytest.mark.parametrize("family", DotsConfig().families())
def test_the_expert_succeeds(family: str) -> None:
    world = DotsConfig().build()
    for seed in range(20):
        world.reset(seed=seed, options={"family": family})
        ended = False
        while not ended:
            _, _, terminated, truncated, info = world.step(world.expert_action())
            ended = terminated or truncated
        assert info["is_success"]


def test_robot_world_and_data_agree() -> None:
    robot = DotsEpisodesConfig().build().describe().robot
    assert robot == DotsConfig().interface()
    assert robot is not None
    compare(linear_policy(robot).contract, DotsConfig().interface())


def test_episodes_are_the_same_every_time() -> None:
    one, two = DotsEpisodesConfig().build(), DotsEpisodesConfig().build()
    assert one.describe() == two.describe()
    np.testing.assert_array_equal(one[2].actions, two[2].actions)
    assert DotsEpisodesConfig(seed=9).build().describe() != one.describe()


def test_a_component_is_known_for_one_block() -> None:
    with pytest.raises(UnknownComponent):
        load("environment", "dots")
    with installed("environment", "dots", "openvla_toolkit.testing.fakes.dots:DotsConfig"):
        assert load("environment", "dots") is DotsConfig
    with pytest.raises(UnknownComponent):
        load("environment", "dots")


def test_the_tiny_policy_is_small_and_its_settings_can_be_replaced(tmp_path: Path) -> None:
    config = tiny_policy(chunk=3, cameras=["wrist"])
    policy = config.build(robot=DotsConfig().interface(), statistics={})
    assert (policy.contract.chunk, policy.contract.cameras) == (3, ("wrist",))
    assert sum(parameter.numel() for parameter in policy.module.parameters()) < 250_000
