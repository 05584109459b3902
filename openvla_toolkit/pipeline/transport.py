"""Batches on their way from a worker to the training process: large arrays do not go through the pipe.

An array that is pickled is copied five times between two processes, which takes longer than making the batch.
In shared memory (``/dev/shm``) it is copied once. Containers often have little of it: where a batch might not
fit, it takes the pipe, and the worker says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["packed", "unpacked"]

LARGE = 1 << 20
"""Bytes from which on an array is shared; smaller ones are quicker through the pipe."""
SHARED_MEMORY = "/dev/shm"  # where torch puts what it shares

_log = logging.getLogger(__name__)


def packed(batch: Mapping[str, NDArray[np.generic]], *, workers: int) -> dict[str, Any]:
    """Return a batch as it is sent: large arrays as tensors, which torch's queues put into shared memory.

    Args:
        workers: how many processes may be sending at the same time.
    """
    large = {key for key, array in batch.items() if array.nbytes >= LARGE}
    wanted = sum(batch[key].nbytes for key in large) * (workers + 1)
    if large and wanted > _free():
        _complain()
        large = set()
    return {key: torch.from_numpy(array) if key in large else array for key, array in batch.items()}


def unpacked(sent: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a batch that was sent; what is shared is not copied."""
    return {key: part.numpy() if isinstance(part, torch.Tensor) else part for key, part in sent.items()}


def _free() -> int:
    """Return how many bytes of shared memory are left."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


@cache
def _complain() -> None:
    """Say once that batches take the slow way."""
    _log.warning(
        "%s has no room for the batches: they go through pipes, which is slower. Give the container more of "
        "it (docker run --shm-size), or lower train.loader.workers.",
        SHARED_MEMORY,
    )
