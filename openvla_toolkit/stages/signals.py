"""Ctrl-C, SIGTERM and SIGUSR1: training is asked politely once, everything else obeys at once.

A rank of a run hears one wish several times: systemd, SLURM and terminals send it to every process, and
launchers pass on what they get. There the first one counts, and whoever started the ranks decides when
patience is over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

from openvla_toolkit.core.errors import RunInterrupted
from openvla_toolkit.core.processes import agreed
from openvla_toolkit.core.ranks import Ranks

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
    """Leave the block in good order when SIGTERM or SIGUSR1 comes, in a rank also when SIGINT does.

    A second one ends the process at once. A rank ignores it, to its end.

    Raises:
        RunInterrupted: one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_rank = Ranks.are_given()

    def end(number: int, frame: FrameType | None) -> None:
        if is_rank:
            _heed_no_more()
        else:
            _restore(before, end)
        raise _Terminated(number)

    heard = _SIGNALS if is_rank else _PREEMPTION
    before: dict[int, Any] = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    except _Terminated as error:
        name = signal.Signals(error.number).name
        raise RunInterrupted(f"stopped by {name}. Go on with --resume.", number=error.number) from error
    finally:
        _restore(before, end)


class StopRequest:
    """Inside ``with``, remembers that the run was asked to stop; the loop asks ``agreed`` between steps.

    The first signal is only remembered. In a rank others are ignored, to its end. In a run of one process the
    same SIGTERM or SIGUSR1 once more is ignored, for queues send it twice; another signal, and a second
    Ctrl-C, is handled as before, so that a stuck run can be stopped.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The signal that came, or None."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _restore(self._before, self._note)

    def agreed(self) -> int | None:
        """Return the signal that any rank was sent, the same in all; None where none was."""
        number = agreed(self.asked)
        if number is not None and self.asked is None:  # sent to another rank; to this one it may yet come
            self.asked = signal.Signals(number)
            _heed_no_more()
        return number

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = signal.Signals(number)
            if Ranks.are_given():
                _heed_no_more()
        elif number == signal.SIGINT or number != self.asked:
            _restore(self._before, self._note)
            signal.raise_signal(number)


def _heed_no_more() -> None:
    """Ignore what comes from now on; unlike ``SIG_IGN`` this is not handed down to processes."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _ignored)


def _ignored(number: int, frame: FrameType | None) -> None:
    """Do nothing: the process is on its way out."""


def _restore(before: Mapping[int, Any], own: object) -> None:
    """Put back what there was before, where nobody has taken the place of ``own`` meanwhile."""
    for number, handler in before.items():
        if signal.getsignal(number) == own:
            signal.signal(number, handler)
