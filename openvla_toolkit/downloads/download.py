"""Fetch parcels through an executor, into folders that the readers take as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from openvla_toolkit.core.errors import StorageError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.storage import atomic_write_bytes, storage_errors
from openvla_toolkit.downloads.addresses import source_at
from openvla_toolkit.downloads.parcels import Parcel
from openvla_toolkit.downloads.sources import RemoteFile, Source
from openvla_toolkit.downloads.transfer import fetch, held
from openvla_toolkit.interfaces.executor import Executor

__all__ = ["check_space", "download"]

Report = Callable[[int, int], None]
Opener = Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class _Piece:
    place: str
    file: RemoteFile
    folder: Path


def check_space(parcels: Sequence[Parcel]) -> None:
    """Raise ``StorageError`` where the disk has not room for what is still missing."""
    needed: dict[Path, int] = {}
    for parcel in parcels:
        place = next(one for one in parcel.folder.absolute().parents if one.exists())
        needed[place] = needed.get(place, 0) + parcel.missing
    for place, size in needed.items():
        free = shutil.disk_usage(place).free
        if size > free:
            raise StorageError(
                f"{place} has {free / 1e9:.1f} GB free, {size / 1e9:.1f} GB are needed: free some, choose "
                "another folder with --to, or fetch a part with --shards."
            )


def download(parcels: Sequence[Parcel], executor: Executor, report: Report | None = None) -> None:
    """Fetch what is missing; ``report(bytes, of)`` is called after every file. Doing it again goes on.

    Raises:
        DownloadError: a file is not delivered, or arrives damaged.
        StorageError: there is no room, the disk cannot be written, or another process writes there.
    """
    check_space(parcels)
    with ExitStack() as folders:
        for parcel in parcels:
            folders.enter_context(_alone(parcel.folder))
        _download(parcels, executor, report)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other downloads out: two that append to one file spoil it."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as free:
        if free is False:
            raise StorageError(f"another process is downloading to {folder}; wait until it is done.")
        yield


def _download(parcels: Sequence[Parcel], executor: Executor, report: Report | None) -> None:
    pieces = [
        _Piece(parcel.place, file, parcel.folder)
        for parcel in parcels
        for file in parcel.files
        if not (parcel.folder / file.name).is_file() or held(file, parcel.folder) < file.size
    ]
    done, total = 0, sum(piece.file.size for piece in pieces)
    with closing(executor.map(_bring, pieces, setup=_opener)) as brought:
        for number, _ in brought:
            done += pieces[number].file.size
            if report is not None:
                report(done, total)
    for parcel in parcels:
        for name, text in parcel.texts.items():
            atomic_write_bytes(parcel.folder / name, text)


def _opener() -> Opener:
    """Return what a worker keeps: the sources that it has opened."""
    return lru_cache(source_at)


def _bring(at: Opener, piece: _Piece) -> None:
    fetch(at(piece.place), piece.file, piece.folder)
