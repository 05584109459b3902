"""What worker processes need to know of the run that they serve, and how to do without them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TypeVar

__all__ = [
    "LAST_WORDS",
    "LAUNCHER",
    "WISHES",
    "InTurn",
    "available_cores",
    "end_with_the_launcher",
    "end_with_the_run",
    "fork_server",
    "interrupts_held",
    "is_launched",
    "leave_last_words",
]

LAUNCHER = "OPENVLA_LAUNCHER"
"""The variable with the process id of the launcher that started this process and watches it."""
LAST_WORDS = "OPENVLA_LAST_WORDS"
"""The variable with the file that a launcher reads a failed process's message from."""

WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals by which terminals and queues ask a run to stop: the run's own processes, not its workers'."""

State = TypeVar("State")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class InTurn:
    """The least executor (``interfaces.executor``): one piece after the other, in this process."""

    def map(
        self, work: Callable[[State, Piece], Result], pieces: Sequence[Piece], *, setup: Callable[[], State]
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield number and result of every piece."""
        if not pieces:
            return
        state = setup()
        for number, piece in enumerate(pieces):
            yield number, work(state, piece)


def available_cores() -> int:
    """Return the number of CPU cores that this process may use: a container or ``taskset`` may allow few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_the_run() -> None:
    """Watch the run from this worker, and end with it, however it went.

    Pools wait for orders on a pipe whose other end they hold themselves, and torch's loader watches the
    forkserver: both would outlive a run that was killed.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def fork_server(module: str) -> ForkServerContext:
    """Start the process that a loader's workers are forked from, unless it runs, and return its context.

    It imports ``module`` once for all of them; started early, while this process does other things.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", module])
    with _held(WISHES):  # or it would die of what is sent to all, and nobody could tell how its workers ended
        forkserver.ensure_running()
    return context


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit that, and would else die of it half-imported."""
    with _held((signal.SIGINT,)):
        yield


@contextmanager
def _held(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it unblocks the signal when it starts, so it must run already
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_and_end() -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)


def is_launched() -> bool:
    """Tell whether a launcher of the toolkit started this process."""
    return LAUNCHER in os.environ


def end_with_the_launcher() -> None:
    """Watch the launcher that started this process, if one did, and end within a second of its end."""
    if launcher := os.environ.get(LAUNCHER):
        threading.Thread(target=_outlive, args=(int(launcher),), daemon=True).start()


def _outlive(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def leave_last_words(message: str, *, lost: bool = False, passing: bool = False) -> bool:
    """Leave a message to the launcher, if one listens; return whether one does.

    Args:
        lost: this process ended because another one was gone.
        passing: what ended it can be mended beside the run, which then goes on: a full disk.
    """
    if not (place := os.environ.get(LAST_WORDS)):
        return False
    Path(place).write_text(json.dumps({"message": message, "lost": lost, "passing": passing}))
    return True
