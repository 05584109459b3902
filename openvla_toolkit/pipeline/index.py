"""The episode index: every number of a data set, and the address of every image, memory-mapped.

It is built once by reading the data set through, and kept under the data's fingerprint. Images stay where
they are; 16 bytes per frame and view say where. Frames are numbered over the whole data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.interfaces.dataset import Dataset

__all__ = ["EpisodeIndex", "build_index", "index_folder"]

FORMAT = 1
Report = Callable[[int, int], None]


class EpisodeIndex:
    """F frames of E episodes as arrays; opened from the folder that ``build_index`` wrote."""

    def __init__(self, folder: Path) -> None:
        head = json.loads((folder / "index.json").read_text())
        self.instructions: Sequence[str] = head["instructions"]
        self.names: Sequence[str] = head["names"]
        self.starts: NDArray[np.int64] = np.load(folder / "starts.npy", mmap_mode="r")
        """[E + 1]: episode e has the frames starts[e] to starts[e + 1]."""
        self.actions: NDArray[np.float32] = np.load(folder / "actions.npy", mmap_mode="r")
        """[F, A]."""
        self.states: NDArray[np.float32] | None = (
            np.load(folder / "states.npy", mmap_mode="r") if head["states"] else None
        )
        """[F, P] or None."""
        self.instruction_of: NDArray[np.int32] = np.load(folder / "instruction_of.npy", mmap_mode="r")
        """[F] into ``instructions``."""
        self.images: Mapping[str, NDArray[Any]] = {
            camera: np.load(folder / f"images.{camera}.npy", mmap_mode="r") for camera in head["cameras"]
        }
        """Camera -> [F] addresses."""

    @property
    def frames(self) -> int:
        """Number of frames over all episodes."""
        return len(self.actions)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.names)

    def episode_of(self, frame: int) -> int:
        """Return the episode that a frame belongs to."""
        return int(np.searchsorted(self.starts, frame, side="right")) - 1


def index_folder(cache: Path, description: DataDescription) -> Path:
    """Return where the index of this very content lies, or would lie."""
    return cache / f"{description.name}-{description.fingerprint[:16]}-v{FORMAT}"


def build_index(dataset: Dataset[Episode], folder: Path, report: Report | None = None) -> EpisodeIndex:
    """Read every episode's numbers once and write the index; an index that is there already is opened.

    Raises:
        DataError: an episode is damaged, empty, has NaN in it, or lacks a camera; names the episode.
        StorageError: the disk is full.
    """
    if folder.exists():
        return EpisodeIndex(folder)
    description = dataset.describe()
    episodes: list[Episode] = []
    for position in range(len(dataset)):
        episode = dataset[position]
        _check(episode, description, first=episodes[0] if episodes else episode)
        episodes.append(episode)
        if report is not None:
            report(position + 1, len(dataset))
    if not episodes:
        raise DataError("there are no episodes to read.", key=description.name)
    with atomic_folder(folder) as partial:
        _write(episodes, description, partial)
    return EpisodeIndex(folder)


def _check(episode: Episode, description: DataDescription, *, first: Episode) -> None:
    frames = len(episode)
    if frames == 0:
        raise DataError("the episode has no frames.", episode=episode.name)
    if episode.actions.shape[1] != first.actions.shape[1]:
        raise DataError(
            f"actions have {episode.actions.shape[1]} dimensions, those of {first.name} have {first.actions.shape[1]}.",
            episode=episode.name,
            key="action",
        )
    vectors = {"action": episode.actions} | ({} if episode.states is None else {"observation.state": episode.states})
    for key, values in vectors.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise DataError("a value is not finite.", episode=episode.name, frame=int(bad[0]), key=key)
    for camera in description.cameras:
        if camera not in episode.images or len(episode.images[camera]) != frames:
            raise DataError(
                f"expected {frames} images.", episode=episode.name, key=f"observation.images.{camera}"
            )


def _write(episodes: Sequence[Episode], description: DataDescription, folder: Path) -> None:
    lengths = [len(episode) for episode in episodes]
    words = sorted({text for episode in episodes for text in episode.instructions})
    number = {text: position for position, text in enumerate(words)}
    head = {
        "format": FORMAT,
        "instructions": words,
        "names": [episode.name for episode in episodes],
        "cameras": list(description.cameras),
        "states": episodes[0].states is not None,
    }
    (folder / "index.json").write_text(json.dumps(head))
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(folder / "actions.npy", np.concatenate([episode.actions for episode in episodes]).astype(np.float32))
    if head["states"]:
        states = [episode.states for episode in episodes if episode.states is not None]
        np.save(folder / "states.npy", np.concatenate(states).astype(np.float32))
    told = [number[text] for episode in episodes for text in episode.instructions]
    np.save(folder / "instruction_of.npy", np.array(told, dtype=np.int32))
    for camera in description.cameras:
        addresses = np.concatenate([episode.images[camera] for episode in episodes])
        np.save(folder / f"images.{camera}.npy", addresses.astype(np.dtype(ADDRESS_FIELDS)))
