"""What the sampler is told about each data set of a recipe."""

from __future__ import annotations

import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.environments.tabletop import TabletopScenesConfig
from openvla_toolkit.pipeline.sampler import Source
from openvla_toolkit.stages.prepare import prepare, robot_of, sources, statistics_of
from openvla_toolkit.testing import DotsEpisodesConfig, tiny_policy


def test_every_data_set_keeps_its_weight() -> None:
    configs = [
        DotsEpisodesConfig(dataset="often", episodes=2, weight=3.0),
        DotsEpisodesConfig(dataset="seldom", episodes=1, weight=0.5),
        TabletopScenesConfig(items=7, weight=0.25),
    ]
    prepared = prepare(configs, Observers([]).tell)
    policy = tiny_policy().build(robot=robot_of(prepared), statistics=statistics_of(prepared))
    members, shares = sources(prepared, policy.contract, seed=1, tell=Observers([]).tell)
    sizes = [sum(len(episode) for episode in config.build()) for config in configs[:2]]
    assert shares == [Source(sizes[0], 3.0), Source(sizes[1], 0.5), Source(7, 0.25)]
    assert [len(member) for member in members] == [*sizes, 7]


def test_goals_that_nobody_is_shown_are_refused() -> None:
    configs = [DotsEpisodesConfig(episodes=1, goals={"name": "geometric"})]
    prepared = prepare(configs, Observers([]).tell)
    policy = tiny_policy().build(robot=robot_of(prepared), statistics=statistics_of(prepared))
    with pytest.raises(RecipeError, match=r"^goals: 'dots' chooses goals, and the policy is shown none"):
        sources(prepared, policy.contract, seed=1, tell=Observers([]).tell)
    wanting = policy.contract.model_copy(update={"goal": True})
    assert len(sources(prepared, wanting, seed=1, tell=Observers([]).tell)[0]) == 1
