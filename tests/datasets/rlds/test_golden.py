"""A data set that tensorflow-datasets wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg

from openvla_toolkit.datasets import RLDSConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "rlds"


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
