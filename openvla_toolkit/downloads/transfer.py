"""Fetch one file: what was fetched before is kept, what arrives damaged is not."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import crc32c

from openvla_toolkit.core.errors import DownloadError
from openvla_toolkit.core.storage import storage_errors
from openvla_toolkit.downloads.http import Interrupted
from openvla_toolkit.downloads.sources import RemoteFile, Source

__all__ = ["PART", "fetch", "held", "patiently"]

PART = ".part"
"""Ending of a file that is not whole yet."""
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds to wait before trying again; as many failures in a row without a new byte are borne."""
BLOCK = 8 << 20

Answer = TypeVar("Answer")


def fetch(source: Source, file: RemoteFile, folder: Path) -> None:
    """Bring a file to a folder, going on where an earlier attempt ended; it has its name once it is sound.

    Raises:
        DownloadError: the source does not deliver it, or delivers a damaged one twice.
        StorageError: the disk is full or cannot be written.
    """
    part = folder / f"{file.name}{PART}"
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        _complete(source, file, part)
        complaint = _complaint(file, part)
        if complaint is None:
            break
        part.unlink()
        if last:
            raise DownloadError(
                f"{file.address} arrives damaged: {complaint}. Try again later, or another --source."
            )
    with storage_errors(part):
        part.replace(folder / file.name)


def held(file: RemoteFile, folder: Path) -> int:
    """Return how many bytes of a file an earlier download has left."""
    whole, part = folder / file.name, folder / f"{file.name}{PART}"
    if whole.is_file() and whole.stat().st_size == file.size:
        return file.size
    return min(_size(part), file.size)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask a short question, and again while the source is busy; raises what ``ask`` raises in the end."""
    for pause in PAUSES[:2]:
        try:
            return ask()
        except Interrupted:
            time.sleep(pause)
    return ask()


def _complete(source: Source, file: RemoteFile, part: Path) -> None:
    """Append until the part has the file's size."""
    failures, most = 0, _size(part)
    while _size(part) != file.size or not part.exists():
        try:
            _append(source, file, part)
        except Interrupted as error:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures > len(PAUSES):
                raise DownloadError(
                    f"{error} Given up after {failures} attempts; what has come stays: start again to go on."
                ) from error
            time.sleep(PAUSES[max(failures - 1, 0)])


def _append(source: Source, file: RemoteFile, part: Path) -> None:
    """Read from where the part ends; from the start where it is too long, or the server knows no ranges."""
    start = _size(part) if _size(part) < file.size else 0
    with source.opened(file, start=start) as body:
        if body.size not in (None, file.size):
            raise DownloadError(f"{file.address} has {body.size} bytes now, not {file.size}: it was changed.")
        if body.start > start:
            raise DownloadError(
                f"{file.address}: byte {start} was asked for, the answer begins at {body.start}."
            )
        with storage_errors(part):
            output = part.open("r+b" if part.exists() else "wb")
        with output:
            output.truncate(body.start)
            output.seek(body.start)
            while block := body.stream.read(BLOCK):
                with storage_errors(part):
                    output.write(block)
    if _size(part) < file.size:
        raise Interrupted(f"{file.address} ended after {_size(part)} of {file.size} bytes.")


def _complaint(file: RemoteFile, part: Path) -> str | None:
    """Return what is wrong with a complete part, as far as the source's checksums tell."""
    if file.crc32c is None and file.md5 is None:
        return None
    crc, md5 = 0, hashlib.md5(usedforsecurity=False)
    with part.open("rb") as stored:
        while block := stored.read(BLOCK):
            if file.crc32c is not None:
                crc = crc32c.crc32c(block, crc)
            else:
                md5.update(block)
    if file.crc32c is not None:
        return None if crc == file.crc32c else f"crc32c {crc:08x}, not {file.crc32c:08x}"
    return None if md5.digest() == file.md5 else f"md5 {md5.hexdigest()}, not {(file.md5 or b'').hex()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
