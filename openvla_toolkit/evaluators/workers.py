"""Environments in processes of their own: one message per worker and step, both ways.

A worker holds several environments, one per slot. It gets a list of orders, carries them out one after the
other and answers with as many replies. The parent keeps the policy.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.types import Observation
from openvla_toolkit.evaluators.episodes import EpisodeError, EpisodePlan, Outcome
from openvla_toolkit.evaluators.filmstrip import film

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.environment import Environment, EnvironmentConfig

__all__ = ["Act", "Film", "Start", "WorkerPool", "default_workers"]

GRACE = 5.0
"""Seconds that a worker gets to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin an episode; the reply is its first observation."""

    plan: EpisodePlan


@dataclass(frozen=True, slots=True)
class Act:
    """Execute actions [H, A] until the episode ends; the reply is an observation or the outcome."""

    plan: EpisodePlan
    actions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Film:
    """Repeat a finished episode and photograph it; the reply is a JPEG, or None if it came out otherwise."""

    outcome: Outcome

    @property
    def plan(self) -> EpisodePlan:
        """The episode that is repeated."""
        return self.outcome.plan


Order: TypeAlias = "Start | Act | Film"
Reply: TypeAlias = "Observation | Outcome | bytes | None"


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong in a worker, in a form that can always be sent."""

    message: str
    exit_code: int
    trace: str


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
        context = multiprocessing.get_context("spawn")
        try:
            for number in range(self._workers):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_serve,
                    args=(theirs, self._environment, self._cameras),
                    name=f"environments-{number}",
                    daemon=True,
                )
                process.start()
                theirs.close()  # the worker has its own copy; with ours open its death would go unnoticed
                self._processes.append(process)
                self._pipes.append(ours)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

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
        if isinstance(answer, _Failure):
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


def _serve(pipe: Connection, environment: EnvironmentConfig, cameras: tuple[str, ...]) -> None:
    """Carry out orders until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    worker = _Worker(environment, cameras)
    try:
        while True:
            share: dict[int, Order] = pipe.recv()
            pipe.send(worker.carry_out(share))
    except (EOFError, ConnectionError):
        return  # the parent has closed its end, or is gone
    finally:
        worker.close()


class _Worker:
    """The environments of one process."""

    def __init__(self, environment: EnvironmentConfig, cameras: tuple[str, ...]) -> None:
        self._config = environment
        self._cameras = cameras
        self._slots: dict[int, _Slot] = {}

    def carry_out(self, share: Mapping[int, Order]) -> dict[int, Reply] | _Failure:
        replies: dict[int, Reply] = {}
        for slot, order in share.items():
            try:
                replies[slot] = self._slot(slot).carry_out(order)
            except (
                Exception
            ) as error:  # a stranger's environment may raise anything; the parent must know where
                return self._failure(order.plan, error)
        return replies

    def close(self) -> None:
        for slot in self._slots.values():
            slot.environment.close()

    def _slot(self, slot: int) -> _Slot:
        if slot not in self._slots:
            self._slots[slot] = _Slot(self._config.build(), self._cameras)
        return self._slots[slot]

    def _failure(self, plan: EpisodePlan, error: Exception) -> _Failure:
        cause = str(error) if isinstance(error, OpenVLAError) else f"{type(error).__name__}: {error}"
        return _Failure(
            message=f"environment '{self._config.name}' failed in {plan}: {cause.rstrip('.')}.",
            exit_code=error.exit_code if isinstance(error, OpenVLAError) else OpenVLAError.exit_code,
            trace=traceback.format_exc(),
        )


class _Slot:
    """One environment and the course of its present episode."""

    def __init__(self, environment: Environment, cameras: tuple[str, ...]) -> None:
        self.environment = environment
        self._cameras = cameras
        self._expert = getattr(environment, "expert_action", None)

    def carry_out(self, order: Order) -> Reply:
        if isinstance(order, Start):
            return self._start(order.plan)
        if isinstance(order, Act):
            return self._act(order)
        return film(self.environment, order.outcome, cameras=self._cameras)

    def _start(self, plan: EpisodePlan) -> Observation:
        seen, _ = self.environment.reset(seed=plan.seed, options=plan.options)
        self._actions: list[NDArray[np.float32]] = []
        self._advice: list[NDArray[np.float32]] = []
        self._task = str(seen["task"])
        return self._observation(seen)

    def _act(self, order: Act) -> Observation | Outcome:
        for action in order.actions:
            if self._expert is not None:
                self._advice.append(np.asarray(self._expert(), dtype=np.float32))
            self._actions.append(np.asarray(action, dtype=np.float32))
            seen, _, terminated, truncated, info = self.environment.step(action)
            if terminated or truncated:
                return Outcome(
                    plan=order.plan,
                    task=self._task,
                    success=bool(info["is_success"]),
                    actions=np.stack(self._actions),
                    expert=np.stack(self._advice) if self._advice else None,
                )
        return self._observation(seen)

    def _observation(self, seen: Mapping[str, Any]) -> Observation:
        return Observation(
            images={camera: np.asarray(seen[f"observation.images.{camera}"]) for camera in self._cameras},
            instruction=self._task,
            state=seen.get("observation.state"),
        )


def default_workers() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
