"""Files and folders that appear whole or not at all.

What a run writes is first written beside its final place under ``<name>.partial-<pid>``, flushed to the disk,
and then renamed. A name without ``.partial`` therefore always stands for something complete.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from openvla_toolkit.core.errors import StorageError

__all__ = ["atomic_folder", "atomic_write_bytes", "atomic_write_text", "is_partial", "storage_errors"]

_MARK = ".partial-"
_FULL = (ENOSPC, EDQUOT)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; on leaving it takes the name ``path``, on an error it is removed.

    Args:
        path: the final name; missing parents are made.
        replace: take the place of a folder that is there already.

    Raises:
        StorageError: ``path`` exists, or came to exist meanwhile, and may not be replaced; the disk is full,
            or it refuses to be written.
    """
    if path.exists() and not replace:
        raise StorageError(f"{path} exists already; remove it or choose another name.")
    partial = _partial(path)
    with storage_errors(path):
        partial.mkdir(parents=True)
    try:
        try:
            yield partial
        except OSError as error:
            if error.errno in _FULL:  # anything else is no matter of writing here
                raise _full(path) from error
            raise
        with storage_errors(path):
            for folder, _, names in os.walk(partial):
                for name in names:
                    _flush(Path(folder, name))
                _flush(Path(folder))
            _take_place(partial, path, replace=replace)
            _flush(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole; a reader sees the old text or the new one.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    atomic_write_bytes(path, text.encode())


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole, as ``atomic_write_text`` does."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with storage_errors(path):
            partial.write_bytes(data)
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def is_partial(path: Path) -> bool:
    """Tell whether this is the name of something that is still being written, or never was finished."""
    return _MARK in path.name


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing ``path`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _full(path) from error
        raise StorageError(f"cannot write {path}: {error.strerror or error}.") from error


def _full(path: Path) -> StorageError:
    free = shutil.disk_usage(_existing(path)).free / 1e6
    return StorageError(
        f"no space left while writing {path} ({free:.0f} MB free): free some or write elsewhere."
    )


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}{_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _flush(path: Path) -> None:
    """Force a file or folder to the disk; Windows cannot open folders and needs no flush of them."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_place(partial: Path, path: Path, *, replace: bool) -> None:
    """Rename ``partial`` to ``path``; a folder in the way is moved aside first and removed last."""
    if not path.exists():
        partial.rename(path)
        return
    if not replace:
        raise StorageError(
            f"{path} was made by another process meanwhile and is left alone; use it or choose another name."
        )
    aside = _partial(path)
    path.rename(aside)
    try:
        partial.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
