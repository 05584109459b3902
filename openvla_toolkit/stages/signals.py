"""Ctrl-C, SIGTERM and SIGUSR1: training is asked politely once, everything else obeys at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from typing_extensions import Self

from openvla_toolkit.core.errors import RunInterrupted

__all__ = ["StopRequest", "ended_by_signals"]

_PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
"""What queues send before they take a machine away; SLURM's ``--signal`` sends SIGUSR1."""
_SIGNALS = (signal.SIGINT, *_PREEMPTION)


class _Terminated(KeyboardInterrupt):
    """What such a signal raises: no ``except Exception`` on the way, an observer's say, may take it for its
    own."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Leave the block in good order when SIGTERM or SIGUSR1 comes; a second one ends the process at once.

    Raises:
        RunInterrupted: one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        restore()
        raise _Terminated(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, end) for number in _PREEMPTION}
    try:
        yield
    except _Terminated as error:
        name = signal.Signals(error.number).name
        raise RunInterrupted(f"stopped by {name}. Go on with --resume.", number=error.number) from error
    finally:
        restore()


class StopRequest:
    """Inside ``with``, remembers that the run was asked to stop; the loop looks at ``asked`` between steps.

    The first signal only sets ``asked``. The second is handled as before, so that a stuck run can be stopped.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The signal that came, or None."""
        self._before: dict[int, signal.Handlers | object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us back
        self._before = {}
