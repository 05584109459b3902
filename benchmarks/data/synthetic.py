"""Episodes without pictures on disk, as many as wanted: for what only touches numbers and addresses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode

__all__ = ["ROBOT", "Synthetic"]

NUMBERS = tuple(Dimension(name=f"number-{number}", unit="1", reference="delta") for number in range(7))
ROBOT = Interface(
    cameras={"primary": Camera(height=256, width=256)}, state=NUMBERS, action=NUMBERS, control_hz=10
)
PICTURE = 30_000
"""Bytes that a picture would have."""


@dataclass(frozen=True)
class Synthetic:
    """Episodes of noise (``interfaces.dataset.Dataset[Episode]``); equal positions give equal episodes."""

    frames: int
    length: int = 250

    def describe(self) -> DataDescription:
        """Return a description whose fingerprint is its size."""
        return DataDescription(
            name="synthetic",
            fingerprint=f"{self.frames:08d}x{self.length:08d}",
            files=["nowhere"],
            cameras=["primary"],
            robot=ROBOT,
        )

    def __len__(self) -> int:
        return self.frames // self.length

    def __getitem__(self, position: int) -> Episode:
        """Return one episode."""
        if position >= len(self):
            raise IndexError(f"episode {position} of {len(self)}")
        numbers = np.random.default_rng(position).standard_normal((2, self.length, 7), dtype=np.float32)
        images = np.zeros(self.length, dtype=np.dtype(ADDRESS_FIELDS))
        images["length"] = PICTURE
        images["offset"] = (position * self.length + np.arange(self.length, dtype=np.uint64)) * PICTURE
        return Episode(
            name=f"episode {position}",
            images={"primary": images},
            states=numbers[0],
            actions=numbers[1],
            instructions=[f"do what is done in scene {position % 1000}"] * self.length,
        )

    def image(self, address: np.void) -> bytes:
        """Return nothing: there are no pictures."""
        return b""
