"""The loader's workers, and how their batches reach the training process.

Every worker has a pipe of its own, whose other end only the training process holds. Should the worker be
killed, the pipe ends, in the middle of a batch or not: nothing that workers share, no queue and no lock, can
be left behind by a dead one.

Large arrays do not go through the pipe: pickled, they are copied five times between two processes, which
takes longer than making the batch. In shared memory (``/dev/shm``) they are copied once. Containers often
have little of it: where a batch might not fit, or does not, it takes the pipe, and the worker says so.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from openvla_toolkit.core.errors import TrainingError
from openvla_toolkit.core.worker import WISHES, end_with_the_run

__all__ = ["Made", "Workers", "packed", "unpacked"]

LARGE = 1 << 20
"""Bytes from which on an array is shared; smaller ones are quicker through the pipe."""
SHARED_MEMORY = "/dev/shm"  # where torch puts what it shares
_UNKNOWN = 255
"""What multiprocessing says of a process whose fork server is gone."""
GRACE = 5.0
"""Seconds that workers get to end by themselves before they are killed."""

_log = logging.getLogger(__name__)


class Made(NamedTuple):
    """What a worker makes of an order."""

    batch: Mapping[str, NDArray[np.generic]]
    skipped: Mapping[str, int]
    """Data set -> samples that could not be read and were replaced."""


class _Failure(NamedTuple):
    """What a worker sends in place of a result."""

    trace: str


class Workers:
    """Processes that turn orders into batches, each in the order in which it was given them.

    ``close`` ends them all; so does the end of this process.

    Args:
        make: gives a ``Made``, or an error in its place that is to arrive as what it is.
    """

    def __init__(
        self, make: Callable[[Sequence[int]], object], *, count: int, context: ForkServerContext
    ) -> None:
        self._pipes: list[Connection] = []
        self._processes: list[ForkServerProcess] = []
        # A process waits at its end for its workers, which wait for orders until their pipes are closed.
        self._end = Finalize(self, _end, args=(self._pipes, self._processes), exitpriority=10)
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, make, count), name=f"loader-{number}", daemon=True
            )
            process.start()
            theirs.close()  # the worker has its own copy; with ours open its death would go unnoticed
            self._pipes.append(ours)
            self._processes.append(process)

    def order(self, worker: int, numbers: Sequence[int]) -> None:
        """Have a worker make the batch of these samples.

        Raises:
            TrainingError: the worker is dead.
        """
        try:
            self._pipes[worker].send(numbers)
        except OSError as error:
            raise self._death(worker) from error

    def result(self, worker: int) -> Any:
        """Wait for what a worker makes of the oldest of its orders.

        Raises:
            TrainingError: the worker died.
            RuntimeError: it failed; the text is its traceback.
        """
        try:
            made = self._pipes[worker].recv()
        except (EOFError, OSError) as error:  # also while what it shares is fetched from it
            raise self._death(worker) from error
        if isinstance(made, _Failure):
            raise RuntimeError(f"in a worker of the loader:\n{made.trace}")
        return made._replace(batch=unpacked(made.batch)) if isinstance(made, Made) else made

    def close(self) -> None:
        """End the workers; those that are still at a batch after ``GRACE`` seconds are killed."""
        self._end()

    def _death(self, worker: int) -> TrainingError:
        process = self._processes[worker]
        process.join(GRACE)
        code = process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        elif code in (None, _UNKNOWN):
            how = "ended, nobody knows how"
        else:
            how = f"exited unexpectedly (code {code})"
        return TrainingError(
            f"DataLoader worker (pid {process.pid}) {how}. If memory ran out, lower train.loader.workers or "
            "train.loader.prefetch."
        )


def _end(pipes: list[Connection], processes: list[ForkServerProcess]) -> None:
    for pipe in pipes:
        pipe.close()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    processes.clear()


def _serve(pipe: Connection, make: Callable[[Sequence[int]], object], workers: int) -> None:
    """Make batches until the training process hangs up.

    They are sent by a thread, so that the next one is made while the training process is busy elsewhere.
    """
    _settle()
    made: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_send, args=(pipe, made, workers), daemon=True).start()
    while True:
        try:
            numbers = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            made.put(make(numbers))
        except Exception:  # a stranger's transform may raise anything; tell where
            made.put(_Failure(traceback.format_exc()))


def _send(pipe: Connection, made: SimpleQueue[Any], workers: int) -> None:
    while True:
        try:
            message = _message(made.get(), workers)
        except Exception:
            message = ForkingPickler.dumps(_Failure(traceback.format_exc()))
        try:
            pipe.send_bytes(message)
        except OSError:  # the training process has hung up, which ends the worker
            return


def _message(made: object, workers: int) -> memoryview:
    """Return what goes through the pipe; large arrays of a batch stay in shared memory."""
    if isinstance(made, Made):
        try:
            return ForkingPickler.dumps(made._replace(batch=packed(made.batch, workers=workers)))
        except RuntimeError:  # what was free is gone: other workers and ranks take of it too
            _complain()
    return ForkingPickler.dumps(made)


def _settle() -> None:
    """Use one thread, and leave Ctrl-C and preemption to the main process, which saves before it stops.

    Terminals and schedulers signal all processes of a run at once, and more than once. Workers end when the
    main process hangs up, or is gone.
    """
    torch.set_num_threads(1)
    end_with_the_run()
    for number in WISHES:
        signal.signal(number, signal.SIG_IGN)


def packed(batch: Mapping[str, NDArray[np.generic]], *, workers: int) -> dict[str, Any]:
    """Return a batch as it is sent: large arrays as tensors, which torch sends through shared memory.

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
