"""Processes on this machine: started together, watched, and ended together.

Not ``torch.distributed.elastic``: this process would have to import torch before it starts the others, and
tells a rank's last error only where the rank's code was prepared for it. What torchrun sets, this sets.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

from openvla_toolkit.core.errors import OpenVLAError, RunInterrupted
from openvla_toolkit.core.worker import LAST_WORDS, LAUNCHER, available_cores
from openvla_toolkit.launchers.watched import Watched, cause_of

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.launchers import LocalConfig

__all__ = ["LocalLauncher"]

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_POLL = 0.05
_SETTLING = 1.0
"""Seconds in which failures are taken for one: a rank that dies takes its neighbours with it."""


class LocalLauncher:
    """Starts ``nproc`` processes and stays their parent; when it is killed, they end themselves."""

    def __init__(self, config: LocalConfig) -> None:
        self._nproc, self._grace = config.nproc, config.grace
        self._asked: int | None = None

    def launch(self, words: Sequence[str], *, recipe: Recipe) -> None:
        """Start the processes and wait for them (see ``interfaces.launcher.Launcher``)."""
        with TemporaryDirectory() as folder, self._signals_passed_on() as workers:
            port = _free_port()
            try:
                workers += [self._started(rank, words, Path(folder), port) for rank in range(self._nproc)]
                self._watch(workers)
                problem = self._problem(workers)
            finally:
                for worker in workers:
                    worker.end()
        if problem is not None:
            raise problem

    def _started(self, rank: int, words: Sequence[str], folder: Path, port: int) -> Watched:
        variables = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": self._nproc,
            "LOCAL_WORLD_SIZE": self._nproc,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            LAUNCHER: os.getpid(),
            LAST_WORDS: folder / f"rank-{rank}.json",
        }
        threads = {"OMP_NUM_THREADS": max(1, available_cores() // self._nproc)}
        environment = {name: str(value) for name, value in threads.items()} | dict(os.environ)
        environment |= {name: str(value) for name, value in variables.items()}
        apart = rank != 0  # the first one has the terminal: its progress is the run's
        process = subprocess.Popen(
            [sys.executable, "-m", "openvla_toolkit", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if apart else None,
            stderr=subprocess.STDOUT if apart else None,
            start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on once
        )
        return Watched(process, rank=rank, world_size=self._nproc, last_words=folder / f"rank-{rank}.json")

    @contextmanager
    def _signals_passed_on(self) -> Iterator[list[Watched]]:
        workers: list[Watched] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            self._asked = number
            for worker in workers:
                worker.send(number)

        before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
        try:
            yield workers
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self, workers: Sequence[Watched]) -> None:
        """Return when all processes have ended; one that fails, or stops as asked, ends the others."""
        while (running := [one for one in workers if one.code is None]) and not any(
            worker.code for worker in workers
        ):
            time.sleep(_POLL)
        if not running:
            return
        if not self._failed(workers):  # they were sent the same signal: a second one would cut short a save
            _wait(running, self._grace)
            return
        _wait(running, _SETTLING)
        for worker in running:
            worker.send(signal.SIGTERM)
        _wait(running, self._grace)

    def _failed(self, workers: Sequence[Watched]) -> bool:
        as_asked = {0, None} if self._asked is None else {0, None, -self._asked, 128 + self._asked}
        return any(worker.code not in as_asked for worker in workers)

    def _problem(self, workers: Sequence[Watched]) -> OpenVLAError | None:
        if self._asked is not None and not self._failed(workers):
            said = next((worker.message for worker in workers if worker.message), None)
            name = signal.Signals(self._asked).name
            return RunInterrupted(said or f"stopped by {name} before anything was done.", number=self._asked)
        return cause_of(workers)


def _wait(workers: Sequence[Watched], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(worker.code is None for worker in workers):
        time.sleep(_POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
