"""Pieces of work in processes of this machine, one piece at a time each.

A pool of its own rather than ``concurrent.futures``: that one says neither which process died nor of what,
and waits for the pieces at hand when it is asked to stop.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from typing_extensions import Self

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.worker import InTurn, available_cores, end_with_the_run, interrupts_held

__all__ = ["Processes"]

State = TypeVar("State")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

GRACE = 5.0
"""Seconds that a worker gets to end by itself before it is killed."""


class Processes:
    """See ``interfaces.executor.Executor``; one worker, or one piece, needs no further process."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers

    def map(
        self, work: Callable[[State, Piece], Result], pieces: Sequence[Piece], *, setup: Callable[[], State]
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield number and result of every piece, as they are done."""
        count = min(self._workers or available_cores(), len(pieces))
        if count > 1:
            with _Pool(count, work, setup) as pool:
                yield from pool.results(pieces)
        else:
            yield from InTurn().map(work, pieces, setup=setup)


class _WorkerError(Exception):
    """Carries a worker's traceback as text, for ``--debug``."""

    def __str__(self) -> str:
        return f"in the worker process:\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class _Failure:
    error: bytes
    """The pickled exception."""
    trace: str


class _Pool:
    """Spawned processes; leaving the ``with`` block always ends them, whatever they are at."""

    def __init__(self, count: int, work: Callable[..., Any], setup: Callable[[], Any]) -> None:
        self._count, self._task = count, (work, setup)
        self._workers: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Self:
        try:
            with interrupts_held():
                for number in range(self._count):
                    self._begin(number)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def results(self, pieces: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        left = deque(range(len(pieces)))
        at: dict[Connection, int] = {}
        for pipe in self._workers:
            self._give(pipe, at, left, pieces)
        while at:
            for ready in wait(list(at)):
                pipe = cast("Connection", ready)
                number = at.pop(pipe)
                result = self._receive(pipe, number, len(pieces))
                self._give(pipe, at, left, pieces)
                yield number, result

    def _begin(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, *self._task), name=f"pieces-{number}", daemon=True
        )
        process.start()
        theirs.close()  # the worker has its own copy; with ours open its death would go unnoticed
        self._workers[ours] = process

    def _give(
        self, pipe: Connection, at: dict[Connection, int], left: deque[int], pieces: Sequence[Any]
    ) -> None:
        if not left:
            return
        at[pipe] = number = left.popleft()
        try:
            pipe.send(pieces[number])
        except OSError as error:
            raise self._death(pipe, number, len(pieces)) from error

    def _receive(self, pipe: Connection, number: int, total: int) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death(pipe, number, total) from error
        if isinstance(answer, _Failure):
            raise pickle.loads(answer.error) from _WorkerError(answer.trace)
        return answer

    def _death(self, pipe: Connection, number: int, total: int) -> OpenVLAError:
        process = self._workers[pipe]
        process.join(GRACE)
        code = process.exitcode
        killed = code is not None and code < 0
        how = f"killed by {signal.Signals(-(code or 0)).name}" if killed else f"exit code {code}"
        return OpenVLAError(
            f"worker process {process.name} died ({how}) at piece {number + 1} of {total}; its own message "
            "stands above, if it left one. If memory ran out, use fewer workers; with one worker all is done "
            "in the run's own process."
        )

    def _end(self) -> None:
        """Terminate all at once: nobody waits for what they would still bring."""
        for process in self._workers.values():
            process.terminate()
        for pipe, process in self._workers.items():
            process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
            pipe.close()
        self._workers.clear()


def _serve(pipe: Connection, work: Callable[[Any, Any], Any], setup: Callable[[], Any]) -> None:
    """Work on what comes until the pipe closes; leave it to the run to decide what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_run()
    state: list[Any] = []
    while True:
        try:
            piece = pipe.recv()
        except EOFError:
            return
        try:
            if not state:
                state.append(setup())
            answer = work(state[0], piece)
        except Exception as error:
            answer = _failure(error)
        pipe.send(answer)


def _failure(error: Exception) -> _Failure:
    """Pack an error; one that cannot be pickled goes as its words."""
    trace = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps(OpenVLAError(f"{type(error).__name__}: {error}"))
    return _Failure(packed, trace)
