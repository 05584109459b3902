"""One process of a run as its launcher sees it: how it ended, and what it said last."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import OpenVLAError, RankFailed

__all__ = ["Watched", "cause_of", "say"]

_GO_ON = "Go on with --resume."
_STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""How a process ends that was stopped because another one failed."""
_OWN_WORDS = (2, *(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)))
"""Exit codes whose messages say all: the user's mistake, and a run that was stopped and has saved."""
_TAIL = 5
"""Lines that are repeated when a process ends without a message."""
_REMEDIES = {
    signal.SIGKILL: "the system kills so where memory runs out: lower train.batch.per_device or the loader's "
    "workers",
    signal.SIGSEGV: "a library crashed: look for its message above",
    signal.SIGABRT: "a library gave up: look for its message above",
    signal.SIGBUS: "shared memory ran out: give the container more (--shm-size)",
}


class Watched:
    """A process of a run; the lines of all but the first are shown with the rank before them."""

    def __init__(
        self, process: subprocess.Popen[bytes], *, rank: int, world_size: int, last_words: Path
    ) -> None:
        self._process, self._last_words = process, last_words
        self.rank, self.world_size = rank, world_size
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def message(self) -> str | None:
        """The error that it ended with, as far as it could still say it."""
        return self._said().get("message")

    @property
    def is_consequence(self) -> bool:
        """Whether it ended because another one did."""
        return bool(self._said().get("lost"))

    @property
    def can_go_on(self) -> bool:
        """Whether the run may go on as it is: the system killed the process, or refused it a disk."""
        return (self.code or 0) < 0 or bool(self._said().get("passing"))

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.code is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """See that it is gone."""
        if self.code is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(timeout=1)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def describe(self) -> str:
        """Say how it ended, and why."""
        code = self.code or 0
        said = self.message or " / ".join(self._tail) or "it left no message"
        if code < 0:
            name = signal.Signals(-code).name
            remedy = _REMEDIES.get(signal.Signals(-code), f"it last said: {said}")
            return f"was killed by {name}; {remedy}"
        return f"ended with exit code {code}: {said}"

    def _said(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(self._last_words.read_text())
        except (OSError, ValueError):  # it ended before it could say anything, or while it was saying it
            return {}
        return said

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            say(f"[rank {self.rank}] {text}")


def say(line: str) -> None:
    """Tell the terminal; where it is gone, the run still saves its state."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def cause_of(workers: Sequence[Watched]) -> OpenVLAError | None:
    """Return the error of the process that failed of its own accord; None where none failed.

    What all say alike (a mistake in the recipe, say) is said once.
    """
    failed = [worker for worker in workers if worker.code]
    own = [worker for worker in failed if not worker.is_consequence and worker.code not in _STOPPED] or failed
    if not own:
        return None
    cause = min(own, key=_doubt)
    said = cause.message
    if said is not None and cause.code in _OWN_WORDS and all(worker.message == said for worker in own):
        return RankFailed(said, code=cause.code or 1)
    rest = "" if cause.world_size == 1 else " The other ranks were stopped."
    text = f"rank {cause.rank} of {cause.world_size} {cause.describe()}".rstrip(".")
    how = f" {_GO_ON}" if cause.can_go_on and _GO_ON not in text else ""
    return RankFailed(f"{text}.{rest}{how}", code=max(cause.code or 1, 1))


def _doubt(worker: Watched) -> tuple[int, int]:
    """Order processes by how unlikely it is that others are to blame for their end.

    None kills itself, but NCCL aborts the process whose neighbour is gone.
    """
    killed = (worker.code or 0) < 0 and worker.code not in (*_STOPPED, -signal.SIGABRT)
    doubts = [killed, worker.message is not None and not worker.is_consequence, not worker.is_consequence]
    return next((place for place, sure in enumerate(doubts) if sure), len(doubts)), worker.rank
