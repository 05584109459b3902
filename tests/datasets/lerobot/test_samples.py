"""What a policy is trained on does not depend on the format of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.types import Sample
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.pipeline.index import build_index
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.pipeline.statistics import compute_statistics


def samples(dataset: RLDSConfig | LeRobotConfig, folder: Path) -> list[Sample]:
    opened = dataset.build()
    robot = opened.describe().robot
    assert robot is not None
    index = build_index(opened, folder)
    source = EpisodeSource(
        opened,
        index,
        compute_statistics(index, robot),
        robot=robot,
        normalization=Normalization(),
        cameras=("primary", "wrist"),
        chunk=2,
    )
    return [source.sample(position, number=position) for position in range(len(source))]


@pytest.mark.parametrize("form", ["v2.0 image", "v2.1 image", "v3.0 image", "v3.0 video"])
def test_samples_are_those_of_rlds(forms: dict[str, Path], tmp_path: Path, form: str) -> None:
    told = samples(RLDSConfig(root=forms["rlds"], dataset="dots"), tmp_path / "rlds")
    found = samples(LeRobotConfig(root=forms[form]), tmp_path / "lerobot")
    assert len(found) == len(told) > 10
    for one, other in zip(told, found, strict=True):
        assert (other.instruction, other.dataset) == (one.instruction, one.dataset)
        np.testing.assert_array_equal(other.actions, one.actions)
        np.testing.assert_array_equal(other.state, one.state)
        for camera, picture in one.images.items():
            off = np.abs(other.images[camera].astype(int) - picture).mean()
            assert off < 6 if "video" in form else off == 0
