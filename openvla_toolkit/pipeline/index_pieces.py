"""Pieces of an episode index: each holds a range of episodes, read by one worker and written as it is read.

A piece is a folder of columns without headers; ``join_pieces`` copies them one after the other into the files
of the index. One episode is in memory while a piece is read, one column of a piece while pieces are joined;
and, once each, the instructions of the data set.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.storage import storage_errors
from openvla_toolkit.core.types import ADDRESS_FIELDS, Episode
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.episode_checks import Model, check_episode, kept

__all__ = ["Piece", "Skipped", "Workplace", "join_pieces", "read_piece"]

COPIED = 1 << 20
"""Bytes copied at a time."""


class Skipped(NamedTuple):
    """An episode that is left out, as ``on_error: skip`` asks for."""

    episode: int
    """Its position in the data set."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What a worker keeps from piece to piece."""

    dataset: Dataset[Episode]
    model: Model
    folder: Path
    """Where pieces are written."""
    on_error: Literal["raise", "skip"]


@dataclass(slots=True)
class Piece:
    """What a worker tells of a piece that it has written."""

    folder: Path
    episodes: int = 0
    frames: int = 0
    samples: int = 0
    """Frames of which a sample is made."""
    skipped: list[Skipped] = field(default_factory=list)


class _Column(NamedTuple):
    """A column with one row per frame."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    """Of a row."""


def _columns(model: Model) -> dict[str, _Column]:
    columns = {"actions": _Column(np.dtype(np.float32), (model.actions,))}
    if model.states is not None:
        columns["states"] = _Column(np.dtype(np.float32), (model.states,))
    return columns | {f"images.{camera}": _Column(np.dtype(ADDRESS_FIELDS)) for camera in model.cameras}


def read_piece(place: Workplace, positions: range) -> Piece:
    """Read a range of episodes and write its columns.

    Raises:
        DataError: an episode is damaged, and ``on_error`` is not ``skip``.
        StorageError: the disk is full.
    """
    piece = Piece(place.folder / f"{positions.start:09d}")
    with ExitStack() as stack:
        with storage_errors(place.folder):
            shutil.rmtree(piece.folder, ignore_errors=True)  # a worker that died may have left its own
            piece.folder.mkdir()
            writer = _Writer(piece.folder, place.model, stack)
        for position in positions:
            try:
                episode = place.dataset[position]
                check_episode(episode, place.model)
            except DataError as error:
                if place.on_error == "raise":
                    raise
                piece.skipped.append(Skipped(position, str(_with_whole_path(error))))
                continue
            with storage_errors(place.folder):
                writer.add(episode)
            piece.episodes += 1
            piece.frames += len(episode)
            piece.samples += int(kept(episode).sum())
        with storage_errors(place.folder):
            writer.finish()
    return piece


def _with_whole_path(error: DataError) -> DataError:
    """Name a file of this machine from its root: the index is kept longer than the folder one stands in."""
    if error.file is None or "://" in str(error.file):
        return error
    file = Path(str(error.file)).absolute()
    return DataError(error.reason, file=file, episode=error.episode, frame=error.frame, key=error.key)


class _Writer:
    """Appends episodes to the columns of one piece."""

    def __init__(self, folder: Path, model: Model, stack: ExitStack) -> None:
        def opened(name: str) -> BinaryIO:
            return stack.enter_context((folder / name).open("wb"))

        self._columns = {name: (opened(name), column.dtype) for name, column in _columns(model).items()}
        self._cameras = model.cameras
        self._told, self._keep, self._lengths = opened("told"), opened("keep"), opened("lengths")
        self._names, self._instructions = _Texts(opened, "names"), _Texts(opened, "instructions")
        self._numbers: dict[str, int] = {}

    def add(self, episode: Episode) -> None:
        self._write("actions", episode.actions)
        if episode.states is not None:
            self._write("states", episode.states)
        for camera in self._cameras:
            self._write(f"images.{camera}", episode.images[camera])
        numbers = self._numbers
        told = [numbers.setdefault(text, len(numbers)) for text in episode.instructions]
        self._told.write(np.array(told, dtype=np.int32).tobytes())
        self._keep.write(kept(episode).astype(np.bool_, copy=False).tobytes())
        self._lengths.write(np.int64(len(episode)).tobytes())
        self._names.add(episode.name)

    def finish(self) -> None:
        for text in self._numbers:
            self._instructions.add(text)

    def _write(self, name: str, values: NDArray[Any]) -> None:
        stream, dtype = self._columns[name]
        stream.write(values.astype(dtype, copy=False).tobytes())


class _Texts:
    """Writes texts and the length of each."""

    def __init__(self, opened: Callable[[str], BinaryIO], name: str) -> None:
        self._data, self._lengths = opened(f"{name}.text"), opened(f"{name}.lengths")

    def add(self, text: str) -> None:
        data = text.encode()
        self._data.write(data)
        self._lengths.write(np.int64(len(data)).tobytes())


def join_pieces(pieces: Sequence[Piece], model: Model, folder: Path) -> None:
    """Write the arrays of the index from those of its pieces, in their order."""
    places = [piece.folder for piece in pieces]
    frames = sum(piece.frames for piece in pieces)
    for name, column in _columns(model).items():
        with _array(folder / f"{name}.npy", column.dtype, (frames, *column.shape)) as out:
            for place in places:
                _append(place / name, out)
    _join_instructions(places, frames, folder)
    _join_samples(pieces, frames, folder)
    lengths = [np.fromfile(place / "lengths", np.int64) for place in places]
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(np.concatenate(lengths))]))
    ends = np.cumsum(np.concatenate([np.fromfile(place / "names.lengths", np.int64) for place in places]))
    np.save(folder / "names.ends.npy", ends)
    with _array(folder / "names.text.npy", np.dtype(np.uint8), (int(ends[-1]),)) as out:
        for place in places:
            _append(place / "names.text", out)


def _join_instructions(places: Sequence[Path], frames: int, folder: Path) -> None:
    numbers: dict[bytes, int] = {}
    with _array(folder / "instruction_of.npy", np.dtype(np.int32), (frames,)) as out:
        for place in places:
            own = [numbers.setdefault(text, len(numbers)) for text in _texts(place / "instructions")]
            told = np.fromfile(place / "told", np.int32)
            out.write(np.array(own, dtype=np.int32)[told].tobytes())
    np.save(folder / "instructions.ends.npy", np.cumsum([len(text) for text in numbers], dtype=np.int64))
    np.save(folder / "instructions.text.npy", np.frombuffer(b"".join(numbers), dtype=np.uint8))


def _join_samples(pieces: Sequence[Piece], frames: int, folder: Path) -> None:
    """Number the frames of which a sample is made; nothing is written where all are."""
    count, first = sum(piece.samples for piece in pieces), 0
    if count == frames:
        return
    with _array(folder / "samples.npy", np.dtype(np.int64), (count,)) as out:
        for piece in pieces:
            keep = np.fromfile(piece.folder / "keep", np.bool_)
            out.write((np.flatnonzero(keep) + first).astype(np.int64).tobytes())
            first += piece.frames


def _texts(path: Path) -> Iterator[bytes]:
    data, end = path.with_suffix(".text").read_bytes(), 0
    for length in np.fromfile(path.with_suffix(".lengths"), np.int64).tolist():
        yield data[end : end + length]
        end += length


def _array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> BinaryIO:
    """Open an array file whose header is written and whose rows are to follow."""
    stream = path.open("wb")
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, header)
    return stream


def _append(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as source:
        shutil.copyfileobj(source, out, COPIED)
