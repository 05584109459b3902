"""Reads ``.npz`` episodes.

A file holds ``actions`` [T, A], ``states`` [T, P], ``images`` [T, height, width, 3] and ``instruction``.
The address of an image is the number of its file and, as offset, the number of its frame.
"""

from __future__ import annotations

import hashlib
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_example_dataset import NpzEpisodesConfig
from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode

__all__ = ["NpzEpisodes"]


class NpzEpisodes:
    """Episodes in the order of their file names."""

    def __init__(self, config: NpzEpisodesConfig) -> None:
        self._config = config
        self._files = sorted(config.root.glob("*.npz"))
        if not self._files:
            raise MissingFile(f"{config.root} holds no .npz file: give 'root' the folder with the episodes.")

    def describe(self) -> DataDescription:
        """Return the description; the fingerprint is made of the checksums that zip archives carry."""
        content = hashlib.sha256()
        for path in self._files:
            content.update(repr([path.name, _checksums(path)]).encode())
        return DataDescription(
            name=self._config.dataset,
            fingerprint=content.hexdigest(),
            files=[path.name for path in self._files],
            cameras=[self._config.camera],
            robot=self._config.embodiment.build(),
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> Episode:
        """Read one episode without its images."""
        path = self._files[position]
        actions = _array(path, "actions").astype(np.float32)
        addresses = np.zeros(len(actions), dtype=np.dtype(ADDRESS_FIELDS))
        addresses["file"], addresses["offset"] = position, np.arange(len(actions))
        return Episode(
            name=path.name,
            images={self._config.camera: addresses},
            states=_array(path, "states").astype(np.float32),
            actions=actions,
            instructions=[str(_array(path, "instruction"))] * len(actions),
        )

    def image(self, address: np.void) -> NDArray[np.uint8]:
        """Return the pixels at an address."""
        pixels: NDArray[np.uint8] = _pictures(self._files[int(address["file"])])[int(address["offset"])]
        return pixels


@lru_cache(maxsize=16)
def _pictures(path: Path) -> NDArray[Any]:
    """Return all pictures of an episode; the last few episodes stay in memory."""
    return _array(path, "images")


def _array(path: Path, key: str) -> NDArray[Any]:
    try:
        with np.load(path) as file:
            array: NDArray[Any] = file[key]
            return array
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read: {error}. Record the episode again.", file=path, key=key) from error


def _checksums(path: Path) -> list[int]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [member.CRC for member in archive.infolist()]
    except zipfile.BadZipFile as error:
        raise DataError(f"is no .npz file: {error}. Record the episode again.", file=path) from error
