"""A small RLDS set made by hand, and the episodes that are in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Camera, Dimension
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import Dataset, FeaturesDict, Image, Scalar, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import RLDSWriter
from openvla_toolkit.embodiments import CustomConfig

FEATURES = FeaturesDict(
    {
        "steps": Dataset(
            FeaturesDict(
                {
                    "observation": FeaturesDict(
                        {
                            "image": Image((8, 10, 3)),
                            "wrist": Image((4, 4, 3), "png"),
                            "joints": Tensor((3,), "float32"),
                            "gripper": Scalar("float64"),
                            "clip/goal": Tensor((2,), "float32", "zlib"),
                        }
                    ),
                    "action": Tensor((2,), "float32"),
                    "is_first": Scalar("bool"),
                    "language_instruction": Text(),
                }
            )
        ),
        "episode_metadata": FeaturesDict({"path": Text(), "number": Scalar("int32")}),
    }
)


def _number(name: str) -> Dimension:
    return Dimension(name=name, unit="1", reference="absolute")


ROBOT = CustomConfig(
    cameras={"primary": Camera(height=8, width=10)},
    state=tuple(_number(name) for name in ("a", "b", "c", "pad", "gripper")),
    action=(_number("left"), _number("right")),
    control_hz=10,
)
CARD = DatasetCard(
    cameras={"primary": "image", "wrist": "wrist"}, state=["joints", None, "gripper"], embodiment=ROBOT
)


def make_episode(number: int, length: int) -> dict[str, Any]:
    """Return an episode whose every value tells its number and step."""
    random = np.random.default_rng([number, length])
    return {
        "steps": {
            "observation": {
                "image": list(random.integers(0, 256, (length, 8, 10, 3), np.uint8)),
                "wrist": [f"png {number} {step}".encode() for step in range(length)],
                "joints": random.normal(size=(length, 3)).astype(np.float32),
                "gripper": np.arange(length, dtype=np.float64) / 4,
                "clip/goal": random.normal(size=(length, 2)).astype(np.float32),
            },
            "action": random.normal(size=(length, 2)).astype(np.float32),
            "is_first": np.arange(length) == 0,
            "language_instruction": [f"schiebe den Würfel {number}"] * length,
        },
        "episode_metadata": {"path": f"raw/{number}", "number": number},
    }


@dataclass(frozen=True)
class Made:
    """A data set on disk and what was written to it."""

    root: Path
    folder: Path
    train: list[dict[str, Any]]
    val: list[dict[str, Any]]

    def config(self, **settings: Any) -> RLDSConfig:
        return RLDSConfig.model_validate({"root": self.root, "dataset": "toy", **settings})

    @property
    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("toy-*"))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write five training episodes to three shards and two validation episodes to one."""
    train = [make_episode(number, 2 + number) for number in range(5)]
    val = [make_episode(number, 3) for number in (10, 11)]
    with RLDSWriter(tmp_path, dataset="toy", features=FEATURES, card=CARD, shard_bytes=5000) as writer:
        for episode in train:
            writer.write(episode)
        for episode in val:
            writer.write(episode, split="val")
    return Made(tmp_path, tmp_path / "toy" / "1.0.0", train, val)


@pytest.fixture
def card() -> DatasetCard:
    """The card that is written beside the data."""
    return CARD


@pytest.fixture
def features() -> FeaturesDict:
    """The features of the data."""
    return FEATURES
