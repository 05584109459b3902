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

FORMAT = 2
_REMEDY = "Delete the folder; the index is built again from the data."
Report = Callable[[int, int], None]


class EpisodeIndex:
    """F frames of E episodes as arrays; opened from the folder that ``build_index`` wrote.

    Raises:
        DataError: the folder is damaged; names the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        head = _head(folder / "index.json")
        self.instructions: Sequence[str] = head["instructions"]
        self.names: Sequence[str] = head["names"]
        self.starts: NDArray[np.int64] = _mapped(folder / "starts.npy")
        """[E + 1]: episode e has the frames starts[e] to starts[e + 1]."""
        self.actions: NDArray[np.float32] = _mapped(folder / "actions.npy")
        """[F, A]."""
        self.states: NDArray[np.float32] | None = _mapped(folder / "states.npy") if head["states"] else None
        """[F, P] or None."""
        self.instruction_of: NDArray[np.int32] = _mapped(folder / "instruction_of.npy")
        """[F] into ``instructions``."""
        self.images: Mapping[str, NDArray[Any]] = {
            camera: _mapped(folder / f"images.{camera}.npy") for camera in head["cameras"]
        }
        """Camera -> [F] addresses."""
        self.samples: NDArray[np.int64] | None = _mapped(folder / "samples.npy") if head["samples"] else None
        """[S] numbers of the frames from which a sample is made; None for all."""
        columns = [
            self.instruction_of,
            *self.images.values(),
            *([] if self.states is None else [self.states]),
        ]
        if any(len(column) != self.frames for column in columns) or self.starts[-1] != self.frames:
            raise DataError(f"its files do not belong together. {_REMEDY}", file=folder)

    def __reduce__(self) -> tuple[type[EpisodeIndex], tuple[Path]]:
        """Pickle the place: a loader's worker maps the same files and is not sent their content."""
        return EpisodeIndex, (self._folder,)

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


def _head(path: Path) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(path.read_text())
        if missing := {"instructions", "names", "cameras", "states", "samples"} - head.keys():
            raise ValueError(f"no '{min(missing)}'")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"the index is damaged: {error}. {_REMEDY}", file=path) from error
    return head


def _mapped(path: Path) -> NDArray[Any]:
    """Map a file as a plain array: ``np.memmap`` itself is slow to index."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the index is damaged: {error}. {_REMEDY}", file=path) from error


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
    if not any(_kept(episode).any() for episode in episodes):
        raise DataError("its transforms leave no frame to make a sample from.", key=description.name)
    with atomic_folder(folder) as partial:
        _write(episodes, description, partial)
    return EpisodeIndex(folder)


def _check(episode: Episode, description: DataDescription, *, first: Episode) -> None:
    frames = len(episode)
    if frames == 0:
        raise DataError("the episode has no frames.", episode=episode.name)
    _check_vectors(episode, "action", episode.actions, first.actions, first_name=first.name)
    _check_vectors(episode, "observation.state", episode.states, first.states, first_name=first.name)
    if len(episode.instructions) != frames:
        raise DataError(
            f"expected {frames} instructions, found {len(episode.instructions)}.",
            episode=episode.name,
            key="task",
        )
    if _kept(episode).shape != (frames,):
        raise DataError(
            f"expected one value per frame ({frames}), found {_kept(episode).shape}.",
            episode=episode.name,
            key="keep",
        )
    for camera in description.cameras:
        count = len(episode.images.get(camera, ()))
        if count != frames:
            key = f"observation.images.{camera}"
            raise DataError(f"expected {frames} images, found {count}.", episode=episode.name, key=key)


def _kept(episode: Episode) -> NDArray[np.bool_]:
    return np.ones(len(episode), dtype=bool) if episode.keep is None else episode.keep


def _check_vectors(
    episode: Episode,
    key: str,
    values: NDArray[np.float32] | None,
    first: NDArray[np.float32] | None,
    *,
    first_name: str,
) -> None:
    """Check that a vector is there for every frame, finite, and as wide as in the first episode."""
    expected = None if first is None else (len(episode), first.shape[1])
    found = None if values is None else values.shape
    if found != expected:
        raise DataError(
            f"expected shape {expected}, as wide as in {first_name}; found {found}.",
            episode=episode.name,
            key=key,
        )
    if values is not None and len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        raise DataError("a value is not finite.", episode=episode.name, frame=int(bad[0]), key=key)


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
        "samples": not all(_kept(episode).all() for episode in episodes),
    }
    (folder / "index.json").write_text(json.dumps(head))
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(
        folder / "actions.npy", np.concatenate([episode.actions for episode in episodes]).astype(np.float32)
    )
    if head["states"]:
        states = [episode.states for episode in episodes if episode.states is not None]
        np.save(folder / "states.npy", np.concatenate(states).astype(np.float32))
    if head["samples"]:
        kept = np.concatenate([_kept(episode) for episode in episodes])
        np.save(folder / "samples.npy", np.flatnonzero(kept).astype(np.int64))
    told = [number[text] for episode in episodes for text in episode.instructions]
    np.save(folder / "instruction_of.npy", np.array(told, dtype=np.int32))
    for camera in description.cameras:
        addresses = np.concatenate([episode.images[camera] for episode in episodes])
        np.save(folder / f"images.{camera}.npy", addresses.astype(np.dtype(ADDRESS_FIELDS)))
