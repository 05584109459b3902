"""Processes on this machine: started together, watched, and ended together.

Not ``torch.distributed.elastic``: this process would have to import torch before it starts the others, and
tells a rank's last error only where the rank's code was prepared for it. What torchrun sets, this sets.
"""

from __future__ import annotations

import math
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

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.errors import OpenVLAError, RunInterrupted
from openvla_toolkit.core.worker import LAST_WORDS, LAUNCHER, available_cores
from openvla_toolkit.launchers.watched import Watched, cause_of, say

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.launchers import LocalConfig

__all__ = ["LocalLauncher"]

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_POLL = 0.05
_ECHO = 1.0
"""Seconds in which SIGTERM or SIGUSR1 once more is the same wish: who asks all processes of a service reaches
a wrapper as well, which passes it on."""
_SETTLING = 1.0
"""Seconds in which failures are taken for one: a rank that dies takes its neighbours with it."""


class LocalLauncher:
    """Starts ``nproc`` processes and stays their parent; when it is killed, they end themselves.

    The first signal is passed on, and however long a save takes, it is waited for. A rank that hangs never
    hears it: after a second signal ranks have ``grace`` seconds until they are killed, after a third none.
    """

    def __init__(self, config: LocalConfig) -> None:
        self._nproc, self._grace = config.nproc, config.grace
        self._asked: int | None = None
        self._since = 0.0
        self._patience = math.inf
        """Until when ranks that were asked to stop may go on, on the monotonic clock."""

    def launch(self, words: Sequence[str], *, recipe: Recipe) -> None:
        """Start the processes and wait for them (see ``interfaces.launcher.Launcher``)."""
        with TemporaryDirectory() as folder, self._signals_passed_on() as workers:
            port = _free_port()
            try:
                for rank in range(self._nproc):
                    workers.append(self._started(rank, words, Path(folder), port))
                if self._asked is not None:  # while they were started: not all have heard it
                    _send(self._asked, workers)
                self._watch(workers)
                problem = self._problem(workers, recipe.output)
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
        # Of a rank that is gone torch tells in stack frames; what ends the run says it in a line.
        usual = {"OMP_NUM_THREADS": max(1, available_cores() // self._nproc), "TORCH_CPP_LOG_LEVEL": "ERROR"}
        environment = {name: str(value) for name, value in usual.items()} | dict(os.environ)
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
            name = signal.Signals(number).name
            if self._asked is None:
                self._asked, self._since = number, time.monotonic()
                _send(number, workers)
                say(f"{name}: waiting for the ranks to save and to end; again to end without saving.")
                return
            is_same = number == self._asked and number != signal.SIGINT
            if is_same and time.monotonic() - self._since < _ECHO:
                return
            seconds = self._grace if self._patience == math.inf else 0
            self._patience = min(self._patience, time.monotonic() + seconds)
            numbers = ", ".join(str(worker.rank) for worker in workers if worker.code is None)
            when = f"in {seconds:g} seconds; again to end them at once" if seconds else "now"
            say(f"{name} again: what still runs (rank {numbers}) is killed {when}.")

        before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
        try:
            yield workers
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self, workers: Sequence[Watched]) -> None:
        """Return when all processes have ended, or patience has; one that fails, or stops as asked, ends the
        others."""
        while (running := [one for one in workers if one.code is None]) and not any(
            worker.code for worker in workers
        ):
            if time.monotonic() >= self._patience:
                return
            time.sleep(_POLL)
        if self._failed(workers):
            self._wait(running, _SETTLING)
            _send(signal.SIGTERM, running)
        else:  # the first one has the trackers and the report to finish, alone and as long as that takes
            self._wait(workers[:1], math.inf)
        self._wait(running, self._grace)

    def _wait(self, workers: Sequence[Watched], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < min(deadline, self._patience) and any(one.code is None for one in workers):
            time.sleep(_POLL)

    def _failed(self, workers: Sequence[Watched]) -> bool:
        """Tell whether one ended otherwise than it was asked to, and not because others did."""
        as_asked = {0, None} if self._asked is None else {0, None, -self._asked, 128 + self._asked}
        lost = self._asked is not None
        return any(one.code not in as_asked and not (lost and one.is_consequence) for one in workers)

    def _problem(self, workers: Sequence[Watched], output: Path) -> OpenVLAError | None:
        if self._asked is None or self._failed(workers):
            return cause_of(workers)
        said = next((one.message for one in workers if one.code == 128 + self._asked and one.message), None)
        return RunInterrupted(said or self._without_words(workers, output), number=self._asked)

    def _without_words(self, workers: Sequence[Watched], output: Path) -> str:
        """Say what is left of a run of which no rank could say it."""
        assert self._asked is not None
        stuck = [f"rank {worker.rank} of {worker.world_size}" for worker in workers if worker.code is None]
        rest = f": {', '.join(stuck)} had to be killed" if stuck else ""
        how = f"stopped by {signal.Signals(self._asked).name}, and nothing more was saved{rest}."
        if newest := checkpoints_of(output)[-1:]:
            return f"{how} The newest whole checkpoint is {newest[0]}. Go on with --resume."
        return f"{how} There is no checkpoint yet: --resume begins anew."


def _send(number: int, workers: Sequence[Watched]) -> None:
    for worker in workers:
        worker.send(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
