"""What worker processes need to know of the run that they serve."""

from __future__ import annotations

import multiprocessing
import os
import threading

__all__ = ["available_cores", "end_with_the_run"]


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


def _wait_and_end() -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)
