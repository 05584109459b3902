"""Trajectories of another reader become episodes as our own reader makes them."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError, RecipeError
from openvla_toolkit.core.registry import load
from openvla_toolkit.interfaces.dataset import EpisodeMaker

if TYPE_CHECKING:
    from conftest import Made


def maker_of(made: Made, **settings: Any) -> EpisodeMaker:
    """Return the maker as a plugin gets it: the kind by its name, the features as JSON."""
    features = json.loads((made.folder / "features.json").read_text())
    config: Any = load("dataset", "rlds").model_validate({"root": made.folder, "dataset": "toy", **settings})
    maker: EpisodeMaker = config.episode_maker(features)
    return maker


def test_episodes_are_those_of_the_reader(made: Made) -> None:
    data, maker = made.config().build(), maker_of(made)
    description = data.describe()
    assert (list(maker.cameras), maker.robot) == (description.cameras, description.robot)
    copy = pickle.loads(pickle.dumps(maker))
    for position in range(len(data)):
        wanted = data[position]
        for one in (maker, copy):
            found = one(data.trajectory(position), name=wanted.name)
            assert pickle.dumps(found) == pickle.dumps(wanted)
        assert maker.trace(data.trajectory(position)) == data.trace(position)


def test_settings_of_the_recipe_go_first(made: Made) -> None:
    trajectory = made.config().build().trajectory(2)
    maker = maker_of(made, action="observation/clip/goal")
    np.testing.assert_array_equal(
        maker(trajectory, name="a").actions, trajectory["observation"]["clip/goal"].astype(np.float32)
    )
    assert maker.settings["action"] == "observation/clip/goal"
    assert maker_of(made).settings != maker.settings


def test_what_is_missing_is_named(made: Made) -> None:
    trajectory = made.config().build().trajectory(0)
    with pytest.raises(RecipeError, match=r"there is no 'hands'"):
        maker_of(made, action="hands")(trajectory, name="a")
    short = {**trajectory, "action": trajectory["action"][:1]}
    with pytest.raises(DataError, match=r"parts have \[2, 1, 2\] frames, the actions 1"):
        maker_of(made)(short, name="a")
    text = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    with pytest.raises(DataError, match="expected a FeaturesDict"):
        made.config().episode_maker(text)
