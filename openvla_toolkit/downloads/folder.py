"""A folder of this machine, or behind a URL that fsspec reads, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.core.locations import RemotePath, as_location, statuses
from openvla_toolkit.downloads.http import Body, Interrupted
from openvla_toolkit.downloads.sources import RemoteFile, versions_among

__all__ = ["Folder"]


class Folder:
    """``gs://``, ``s3://``, ..., each with its own way to sign in, or a folder of this machine."""

    def __init__(self, address: str) -> None:
        """Raise ``ValueError`` for what cannot be the URL of a folder."""
        place = as_location(address)
        self._root = place if isinstance(place, Path | RemotePath) else Path(address)

    def read(self, folder: str, name: str) -> bytes:
        """Return a small file."""
        with _told(path := self._root / folder / name):
            return path.read_bytes()

    def files(self, folder: str, names: Sequence[str]) -> list[RemoteFile]:
        """Look for the sizes in the listing of the folder."""
        place = self._root / folder
        with _told(place):
            found = statuses(place, names)
        return [
            RemoteFile(name=name, size=status.size, address=f"{folder}/{name}")
            for name, status in zip(names, found, strict=True)
        ]

    def versions(self, folder: str) -> list[str]:
        """List the folders of the data set that have the name of a version."""
        place = self._root / folder
        with _told(place):
            return versions_among(one.name for one in place.iterdir()) if place.is_dir() else []

    @contextmanager
    def opened(self, file: RemoteFile, *, start: int) -> Iterator[Body]:
        """Read a file from a byte on."""
        path = self._root / file.address
        with _told(path):
            if isinstance(path, RemotePath):
                yield Body(stream=_Ranges(path, start, file.size), start=start, size=None)
                return
            with path.open("rb") as stream:
                stream.seek(start)
                yield Body(stream=stream, start=start, size=path.stat().st_size)


class _Ranges:
    """Reads a remote file in pieces."""

    def __init__(self, path: RemotePath, start: int, stop: int) -> None:
        self._path, self._at, self._stop = path, start, stop

    def read(self, count: int = -1, /) -> bytes:
        end = self._stop if count < 0 else min(self._at + count, self._stop)
        if end <= self._at:
            return b""
        (piece,) = self._path.read_ranges([(self._at, end)])
        self._at = end
        return piece


@contextmanager
def _told(path: Path | RemotePath) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFile(f"{path} does not exist.") from error
    except (DataError, OSError) as error:
        raise Interrupted(f"{path} cannot be read: {error}") from error
