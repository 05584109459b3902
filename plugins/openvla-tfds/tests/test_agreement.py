"""What tensorflow-datasets reads is what the toolkit's own reader reads, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openvla_tfds import TFDSConfig
from openvla_tfds.reader import TFDSDataset
from toy_builders import READ

from openvla_toolkit.core.registry import load


def pair(settings: Mapping[str, Any], via: str = "tfds") -> tuple[TFDSDataset, Any]:
    ours = load("dataset", "rlds").model_validate(settings)
    return TFDSConfig.model_validate(
        {**settings, "root": str(settings["root"]), "via": via}
    ).build(), ours.build()


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def agree(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    assert one.describe().robot == other.describe().robot
    assert one.describe().cameras == other.describe().cameras
    for position in range(len(other)):
        found, wanted = one[position], other[position]
        np.testing.assert_array_equal(found.actions, wanted.actions)
        np.testing.assert_array_equal(found.states, wanted.states)
        assert list(found.instructions) == list(wanted.instructions)
        assert (found.keep is None) == (wanted.keep is None)
        for camera, addresses in wanted.images.items():
            pictures = [one.image(address) for address in found.images[camera]]
            assert pictures == [other.image(address) for address in addresses]
            assert all(isinstance(picture, bytes) for picture in pictures)
        assert one.trace(position) == other.trace(position)


@pytest.mark.parametrize("split", ["train", "val+train[1:3]", "train[50%:]", "train[-2:]", "all"])
def test_a_set_that_tfds_wrote(root: Path, split: str) -> None:
    agree(*pair({"root": root, "dataset": "toy_arms", "split": split, **READ}))


def test_trajectories_agree_feature_by_feature(root: Path) -> None:
    one, other = pair({"root": root, "dataset": "toy_arms", **READ})
    images = {"observation/image", "observation/wrist"}
    for position in range(len(other)):
        found, wanted = leaves(one.trajectory(position)), leaves(other.trajectory(position))
        assert found.keys() == wanted.keys()
        for key, values in wanted.items():
            assert found[key].dtype == values.dtype, key
            if key not in images:  # their addresses are each reader's own affair
                np.testing.assert_array_equal(found[key], values, err_msg=key)


@pytest.mark.parametrize("via", ["tfds", "dlimp"])
def test_recorded_sets_by_their_catalog_entries(recorded: list[Path], via: str, dlimp: None) -> None:
    assert recorded
    for folder in recorded:
        agree(*pair({"root": folder, "dataset": folder.parent.name, "split": "all"}, via))


def test_order_does_not_matter(root: Path) -> None:
    one, other = pair({"root": root, "dataset": "toy_arms", "split": "all", **READ})
    for position in (6, 0, 3, 2, 2, 4, 5, 1):
        np.testing.assert_array_equal(one[position].actions, other[position].actions)


def test_a_feature_that_only_tfds_knows_reaches_the_trajectory(root: Path) -> None:
    data = TFDSConfig.model_validate({"root": str(root), "dataset": "toy_phases", **READ}).build()
    trajectory = data.trajectory(2)
    assert trajectory["phase"].tolist() == [0, 1] * (len(data[2]) // 2) + [0] * (len(data[2]) % 2)
    assert len(data[2].images["primary"]) == len(trajectory["phase"])
