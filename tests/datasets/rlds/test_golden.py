"""Agreement with OpenVLA's own pipeline on a data set that tensorflow-datasets wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from openvla_toolkit.datasets import RLDSConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "rlds"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def normalized(values: Any, statistics: dict[str, Any], method: str) -> Any:
    """OpenVLA's normalisation of all dimensions; what it leaves alone is not compared."""
    low, high = np.array(statistics["min"]), np.array(statistics["max"])
    if method == "bounds":
        scaled = np.clip(2 * (values - low) / (high - low + 1e-8) - 1, -1, 1)
        return np.where(low == high, 0.0, scaled)
    return (values - np.array(statistics["mean"])) / (np.array(statistics["std"]) + 1e-8)


@pytest.mark.parametrize("split", ["train", "val"])
def test_episodes_agree(split: str) -> None:
    data = RLDSConfig(root=GOLDEN / "data", dataset="bridge_orig", split=split).build()
    expected = [episode for episode in EXPECTED["episodes"] if episode["split"] == split]
    assert len(data) == len(expected)
    for position, wanted in enumerate(expected):
        episode = data[position]
        assert set(episode.instructions) == {wanted["instruction"]}
        actions = normalized(episode.actions, EXPECTED["statistics"]["action"], wanted["normalization"])
        np.testing.assert_allclose(actions[:, :6], np.array(wanted["action"])[:, :6], atol=1e-6)
        np.testing.assert_array_equal(episode.actions[:, 6], np.array(wanted["action"])[:, 6])
        states = normalized(episode.states, EXPECTED["statistics"]["proprio"], wanted["normalization"])
        np.testing.assert_allclose(states, wanted["proprio"], atol=1e-6)


def test_pictures_are_those_of_the_steps_that_are_left() -> None:
    data = RLDSConfig(root=GOLDEN / "data", dataset="bridge_orig").build()
    for position in range(len(data)):
        raw, episode = data.trajectory(position)["observation"], data[position]
        # The first step is dropped for its zero action, the last for want of a next state.
        np.testing.assert_array_equal(episode.images["primary"], raw["image_0"][1:-1])
        np.testing.assert_array_equal(episode.images["secondary"], raw["image_1"][1:-1])
        for address in episode.images["primary"]:
            assert simplejpeg.decode_jpeg(data.image(address)).shape == (128, 128, 3)


def test_the_cameras_have_the_size_in_which_they_were_recorded() -> None:
    robot = RLDSConfig(root=GOLDEN / "data", dataset="bridge_orig").build().describe().robot
    assert robot is not None
    sizes = {name: (camera.height, camera.width) for name, camera in robot.cameras.items()}
    # BridgeData's own are 256 px; the features of this copy say otherwise, and the contract must not lie.
    assert sizes == {"primary": (128, 128), "secondary": (96, 96)}
