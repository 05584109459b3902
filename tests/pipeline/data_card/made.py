"""A data set in memory whose every number a test can choose."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.pipeline.data_card.card import DataCard, make_card
from openvla_toolkit.pipeline.data_card.concerns import concerns
from openvla_toolkit.pipeline.index import build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsEpisodesConfig

__all__ = ["ROBOT", "Made", "card_of", "told"]

ROBOT = Interface(
    cameras={"front": Camera(height=6, width=8)},
    state=(
        Dimension(name="height", unit="m", reference="absolute"),
        Dimension(name="grip", unit="1", reference="absolute", gripper="open_low"),
    ),
    action=(
        Dimension(name="x", unit="m", reference="delta"),
        Dimension(name="y", unit="m", reference="delta"),
        Dimension(name="gripper", unit="1", reference="absolute", gripper="open_high"),
    ),
    control_hz=5,
)


def picture(width: int = 8, height: int = 6) -> bytes:
    """Return a JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass
class Made:
    """Episodes with random movements, a gripper that closes half-way, and what a test changes of it."""

    lengths: Sequence[int] = (20, 30, 40)
    robot: Interface = ROBOT
    actions: NDArray[np.float32] = field(init=False)
    states: NDArray[np.float32] = field(init=False)
    texts: list[str] = field(init=False)
    keep: NDArray[np.bool_] | None = None
    pictures: dict[int, bytes] = field(default_factory=dict)
    """Frame -> its picture, where it is not as the others."""
    broken: set[int] = field(default_factory=set)
    """Episodes that cannot be read."""

    def __post_init__(self) -> None:
        generator = np.random.default_rng(7)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        frames = int(self.starts[-1])
        self.actions = generator.normal(0, 0.01, (frames, 3)).astype(np.float32)
        closed = np.concatenate([np.arange(length) >= length // 2 for length in self.lengths])
        self.actions[:, 2] = np.where(closed, 0, 1)
        self.states = generator.normal(0, 1, (frames, 2)).astype(np.float32)
        self.states[:, 1] = closed
        self.texts = [f"do {episode}" for episode, n in enumerate(self.lengths) for _ in range(n)]

    def describe(self) -> DataDescription:
        return DataDescription(
            name="made", fingerprint="0" * 64, files=("memory",), cameras=("front",), robot=self.robot,
            version="1.2.3", splits={"train": 3, "val": 1},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> Episode:
        if position in self.broken:
            raise DataError("it is cut off.", episode=position)
        here = slice(int(self.starts[position]), int(self.starts[position + 1]))
        addresses = np.zeros(self.lengths[position], dtype=np.dtype(ADDRESS_FIELDS))
        addresses["offset"] = np.arange(here.start, here.stop)
        return Episode(
            name=f"made/{position}",
            images={"front": addresses},
            states=self.states[here],
            actions=self.actions[here],
            instructions=self.texts[here],
            keep=None if self.keep is None else self.keep[here],
        )

    def image(self, address: np.void) -> bytes:
        return self.pictures.get(int(address["offset"]), picture())


def card_of(made: Made, folder: Path, **settings: Any) -> DataCard:
    """Index a made data set and return its card; settings are those of a recipe's data set."""
    index = build_index(made, folder / "index", on_error="skip")
    config = DotsEpisodesConfig(episodes=1, **settings)
    return make_card(config, made, index, compute_statistics(index, made.robot))


def told(card: DataCard) -> str:
    """Return all concerns as one text."""
    return "\n".join(f"{one.what} {one.remedy} {one.lines}" for one in concerns(card))
