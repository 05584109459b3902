"""Environments in processes of their own: one message per worker and step, both ways.

The parent keeps the policy; ``worker_process.py`` is what the workers do.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from openvla_toolkit.core.errors import EpisodeError
from openvla_toolkit.core.worker import interrupts_held
from openvla_toolkit.evaluators.worker_process import Failure, Order, Reply, serve

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.environment import EnvironmentConfig

__all__ = ["WorkerPool"]

GRACE = 5.0
"""Seconds that a worker gets to end by itself before it is killed."""


class _WorkerError(Exception):
    """Carries a worker's traceback as text, for ``--debug``."""

    def __str__(self) -> str:
        return f"in the worker process:\n{self.args[0]}"


class WorkerPool:
    """Processes that step environments; leaving the ``with`` block always ends them.

    Args:
        environment: what every worker builds, once per slot.
        cameras: the views that observations carry.
        slots: environments in all; slot ``s`` lives in worker ``s % workers``.
        workers: processes.

    Raises:
        EpisodeError: an environment raised or a worker died; names the episode, its seed and the cause.
    """

    def __init__(
        self, environment: EnvironmentConfig, *, cameras: Sequence[str], slots: int, workers: int
    ) -> None:
        self._environment = environment
        self._cameras = tuple(cameras)
        self._workers = min(workers, slots)
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Connection] = []

    def __enter__(self) -> Self:
        try:
            with interrupts_held():
                for number in range(self._workers):
                    self._begin(number)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _begin(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs, self._environment, self._cameras),
            name=f"environments-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()  # the worker has its own copy; with ours open its death would go unnoticed
        self._processes.append(process)
        self._pipes.append(ours)

    def carry_out(self, orders: Mapping[int, Order]) -> dict[int, Reply]:
        """Give every slot its order and return the replies, in ascending order of slots."""
        shares = [
            {slot: order for slot, order in orders.items() if slot % self._workers == number}
            for number in range(self._workers)
        ]
        for number, share in enumerate(shares):
            if share:
                self._send(number, share)
        replies: dict[int, Reply] = {}
        for number, share in enumerate(shares):
            if share:
                replies.update(self._receive(number, share))
        return dict(sorted(replies.items()))

    def _send(self, number: int, share: Mapping[int, Order]) -> None:
        try:
            self._pipes[number].send(share)
        except OSError as error:
            raise self._death(number, share.values()) from error

    def _receive(self, number: int, share: Mapping[int, Order]) -> dict[int, Reply]:
        try:
            answer = self._pipes[number].recv()
        except (EOFError, OSError) as error:
            raise self._death(number, share.values()) from error
        if isinstance(answer, Failure):
            failure = EpisodeError(answer.message)
            failure.exit_code = answer.exit_code
            raise failure from _WorkerError(answer.trace)
        replies: dict[int, Reply] = answer
        return replies

    def _death(self, number: int, orders: Iterable[Order]) -> EpisodeError:
        process = self._processes[number]
        process.join(GRACE)
        code = process.exitcode
        how = (
            f"killed by {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"exit code {code}"
        )
        episodes = "; ".join(str(order.plan) for order in orders)
        return EpisodeError(
            f"the process that ran environment '{self._environment.name}' died ({how}) during {episodes}. "
            "If it ran out of memory, lower 'parallel' or 'workers'."
        )

    def _end(self) -> None:
        """Close the pipes, on which idle workers end; stop those that do not."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(GRACE)
            if process.is_alive():
                process.terminate()
                process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._pipes.clear()
        self._processes.clear()
