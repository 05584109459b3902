"""Reads ``.npz`` episodes.

A file holds ``actions`` [T, A], ``states`` [T, P], ``instruction`` and each picture as an array of its own,
``<camera>_<frame>`` [height, width, 3]: pictures are asked for one at a time and in random order.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openvla_example_dataset import NpzEpisodesConfig
from openvla_toolkit.datasets.episode_files import EpisodeFiles, RecordedEpisode

__all__ = ["NpzEpisodes"]


class NpzEpisodes(EpisodeFiles[NpzEpisodesConfig]):
    """Episodes in the order of their file names."""

    damaged = (*EpisodeFiles.damaged, zipfile.BadZipFile, zlib.error)

    def read(self, path: Path) -> RecordedEpisode:
        """Read one file without its pictures."""
        with path.open("rb") as stream, np.load(stream) as file:
            return RecordedEpisode(
                actions=file["actions"], states=file["states"], instruction=str(file["instruction"])
            )

    def picture(self, path: Path, camera: str, frame: int) -> NDArray[np.uint8]:
        """Read one picture."""
        with path.open("rb") as stream, np.load(stream) as file:
            pixels: NDArray[np.uint8] = file[f"{camera}_{frame}"]
            return pixels
