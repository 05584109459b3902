"""Folders that one process at a time may work in."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openvla_toolkit.core.storage import storage_errors

__all__ = ["locked"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)
"""What some network file systems say."""


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[bool | None]:
    """Hold a folder while the block runs; the system lets go of it however the process ends.

    Args:
        wait: until another process lets go of it, instead of saying that it is held.

    Yields:
        True: it is held; False: another process holds it; None: this file system knows no locks.

    Raises:
        StorageError: the folder cannot be opened.
    """
    with storage_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        with storage_errors(folder):
            held = _lock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield held
    finally:
        os.close(handle)


def _lock(handle: int, operation: int) -> bool | None:
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True
