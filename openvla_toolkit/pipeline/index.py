"""The episode index: every number of a data set, and the address of every image, memory-mapped.

It is built once by reading the data set through, and kept under the data's fingerprint. Images stay where
they are; 16 bytes per frame and view say where. Frames are numbered over the whole data set.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.storage import atomic_folder, is_partial, storage_errors
from openvla_toolkit.core.types import DataDescription, Episode
from openvla_toolkit.core.worker import InTurn
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.pipeline.episode_checks import Model, check_episode, check_widths
from openvla_toolkit.pipeline.episode_ranges import episode_ranges
from openvla_toolkit.pipeline.index_pieces import Piece, Skipped, Workplace, join_pieces, read_piece
from openvla_toolkit.pipeline.texts import TextTable

__all__ = ["EpisodeIndex", "build_index", "index_folder"]

FORMAT = 3
_REMEDY = "Delete the folder; the index is built again from the data."
Report = Callable[[int, int], None]
OnError = Literal["raise", "skip"]

_log = logging.getLogger(__name__)


class EpisodeIndex:
    """F frames of E episodes as arrays; opened from the folder that ``build_index`` wrote.

    Raises:
        DataError: the folder is damaged; names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        head = _head(folder / "index.json")
        self.instructions: Sequence[str] = _texts(folder, "instructions")
        """What the robot was told, each text once."""
        self.names: Sequence[str] = _texts(folder, "names")
        """[E]"""
        self.skipped: Sequence[Skipped] = [Skipped(*entry) for entry in head["skipped"]]
        """Episodes of the data set that are not here, as ``on_error: skip`` asked for."""
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
        whole = all(len(column) == self.frames for column in columns) and self.starts[-1] == self.frames
        if not whole or len(self.starts) != len(self.names) + 1:
            raise DataError(f"its files do not belong together. {_REMEDY}", file=folder)

    def __reduce__(self) -> tuple[type[EpisodeIndex], tuple[Path]]:
        """Pickle the place: a loader's worker maps the same files and is not sent their content."""
        return EpisodeIndex, (self.folder,)

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
        if missing := {"cameras", "states", "samples", "skipped"} - head.keys():
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


def _texts(folder: Path, name: str) -> TextTable:
    return TextTable(_mapped(folder / f"{name}.text.npy"), _mapped(folder / f"{name}.ends.npy"))


def index_folder(cache: Path, description: DataDescription) -> Path:
    """Return where the index of this very content lies, or would lie."""
    return cache / description.name / f"{description.fingerprint[:16]}-v{FORMAT}"


def build_index(
    dataset: Dataset[Episode],
    folder: Path,
    report: Report | None = None,
    *,
    executor: Executor | None = None,
    on_error: OnError = "raise",
) -> EpisodeIndex:
    """Read every episode's numbers once and write the index; an index that is there already is opened.

    One process at a time makes indexes in the folder that ``folder`` lies in; others wait for it.

    Args:
        report: called with the episodes done and those there are, as ranges of episodes are done.
        executor: where the episodes are read; None for this process.
        on_error: ``skip`` leaves damaged episodes out and keeps their reasons in ``EpisodeIndex.skipped``.

    Raises:
        DataError: an episode is damaged, empty, has NaN in it, or lacks a camera; names the episode. With
            ``skip``: no episode is whole.
        ContractMismatch: the vectors have not the widths that the embodiment describes.
        StorageError: the disk is full.
    """
    description = dataset.describe()
    if not folder.exists():
        with _alone(folder.parent, name=description.name):
            if not folder.exists():
                _build(dataset, folder, report or (lambda done, total: None), executor or InTurn(), on_error)
    index = EpisodeIndex(folder)
    if description.robot is not None:
        states = None if index.states is None else index.states.shape[1]
        check_widths(description.robot, actions=index.actions.shape[1], states=states, place=description.name)
    if index.skipped and on_error == "raise":
        raise DataError(
            f"{len(index.skipped)} episodes are damaged, first number {index.skipped[0].episode}: "
            f"{index.skipped[0].reason} Mend them, or leave them out with on_error: skip.",
            key=description.name,
        )
    return index


@contextmanager
def _alone(parent: Path, *, name: str) -> Iterator[None]:
    """Hold the folder that indexes of a data set lie in, and remove what a killed process left in it."""
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
    with locked(parent) as free:
        if free is False:
            _log.warning("%s: another process is making its index; waiting for it.", name)
    with locked(parent, wait=True) as held:
        if held:
            for leftover in filter(is_partial, parent.iterdir()):
                shutil.rmtree(leftover)
        yield


def _build(
    dataset: Dataset[Episode], folder: Path, report: Report, executor: Executor, on_error: OnError
) -> None:
    description = dataset.describe()
    model = _model(dataset, description, on_error)
    ranges = episode_ranges(len(dataset))
    pieces: dict[int, Piece] = {}
    done = 0
    with atomic_folder(folder) as partial_folder:
        (place := partial_folder / "pieces").mkdir()
        opened = partial(Workplace, dataset=dataset, model=model, folder=place.absolute(), on_error=on_error)
        with closing(executor.map(read_piece, ranges, setup=opened)) as read:
            for number, piece in read:
                pieces[number] = piece
                done += len(ranges[number])
                report(done, len(dataset))
        ordered = [pieces[number] for number in range(len(ranges))]
        if not any(piece.samples for piece in ordered):
            raise DataError("its transforms leave no frame to make a sample from.", key=description.name)
        join_pieces(ordered, model, partial_folder)
        shutil.rmtree(place)
        head = {
            "format": FORMAT,
            "cameras": list(model.cameras),
            "states": model.states is not None,
            "samples": any(piece.samples < piece.frames for piece in ordered),
            "skipped": [one for piece in ordered for one in piece.skipped],
        }
        (partial_folder / "index.json").write_text(json.dumps(head))


def _model(dataset: Dataset[Episode], description: DataDescription, on_error: OnError) -> Model:
    """Return what the first episode that is whole is like."""
    damaged: DataError | None = None
    for position in range(len(dataset)):
        try:
            episode = dataset[position]
            model = Model.of(episode, description)
            check_episode(episode, model)
            return model
        except DataError as error:
            if on_error == "raise":
                raise
            damaged = damaged or error
    if damaged is None:
        raise DataError("there are no episodes to read.", key=description.name)
    raise DataError(
        f"none of its {len(dataset)} episodes can be read. The first: {damaged}", key=description.name
    )
