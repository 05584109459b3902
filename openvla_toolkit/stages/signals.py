"""Ctrl-C and SIGTERM: training is asked politely once, everything else obeys at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from typing_extensions import Self

from openvla_toolkit.core.errors import RunInterrupted

__all__ = ["StopRequest", "ended_by_sigterm"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Terminated(KeyboardInterrupt):
    """What SIGTERM raises: no ``except Exception`` on the way, an observer's say, may take it for its own."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Leave the block in good order when SIGTERM comes; a second one ends the process as it always did.

    Raises:
        RunInterrupted: SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated as error:
        raise RunInterrupted("stopped by SIGTERM. Go on with --resume.") from error
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """Inside ``with``, remembers that the run was asked to stop; the loop looks at ``asked`` between steps.

    The first signal only sets ``asked``. The second is handled as before, so that a stuck run can be stopped.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        """Name of the signal that came, or None."""
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
        self.asked = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us back
        self._before = {}
