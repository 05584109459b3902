"""Pieces of work for actors of a Ray cluster, one piece at a time each."""

from __future__ import annotations

import os
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.worker import available_cores

if TYPE_CHECKING:
    from openvla_ray import RayConfig

__all__ = ["Cluster"]

State = TypeVar("State")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


class Cluster:
    """See ``openvla_toolkit.interfaces.executor.Executor``; its actors stay for the next job.

    A connection that others have made is used and left alone; one that is made here ends with this object.
    """

    def __init__(self, config: RayConfig) -> None:
        self._config = config
        self._workers: list[Any] = []

    def map(
        self, work: Callable[[State, Piece], Result], pieces: Sequence[Piece], *, setup: Callable[[], State]
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield number and result of every piece, as they are done."""
        if not pieces:
            return
        self._connect()
        self._start(len(pieces))
        job = _Job(self._workers[: len(pieces)], work, setup, pieces, retries=self._config.retries)
        try:
            yield from job.results(self._another)
        finally:
            for worker in job.busy:  # with a piece that is given up, or waiting for its place
                self._workers.remove(worker)
                ray.kill(worker)

    def _start(self, pieces: int) -> None:
        """Have as many actors as the cluster has places, and no more than there are pieces."""
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = int(there.get("CPU", 1.0) // self._config.cpus_per_task)
        while len(self._workers) < min(pieces, max(places, 1)):
            self._another()

    def _another(self, lost: Any = None) -> Any:
        if lost is not None:
            self._workers.remove(lost)
        self._workers.append(ray.remote(num_cpus=self._config.cpus_per_task)(_Worker).remote())
        return self._workers[-1]

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        address = self._config.address
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            if address is None:
                ray.init(address="local", num_cpus=available_cores(), include_dashboard=False, **QUIET)
            else:
                ray.init(address=address, **QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = "on this machine" if address is None else f"at '{address}'"
            raise OpenVLAError(f"there is no Ray cluster {where}: {str(error).rstrip('.')}.") from error
        weakref.finalize(self, ray.shutdown)


class _Job:
    """The pieces of one job, given out to actors one by one.

    Actors that wait for a place on a busy cluster get no piece: the others go on without them.
    """

    def __init__(
        self, workers: Sequence[Any], work: Any, setup: Any, pieces: Sequence[Any], *, retries: int
    ) -> None:
        self._what = (uuid.uuid4().hex, [ray.put((work, setup))])  # in a list: a worker fetches it once
        self._pieces, self._retries = pieces, retries
        self._at: dict[Any, tuple[Any, int | None]] = {}
        for worker in workers:
            self._give(worker, None)

    @property
    def busy(self) -> list[Any]:
        """The actors that have not answered."""
        return [worker for worker, _ in self._at.values()]

    def results(self, another: Callable[[Any], Any]) -> Generator[tuple[int, Any], None, None]:
        """Yield number and result; ``another`` takes an actor that was lost and gives a new one."""
        left, missing, tries = iter(range(len(self._pieces))), len(self._pieces), Counter[int | None]()
        while missing:
            (ready, *_), _ = ray.wait(list(self._at))
            worker, number = self._at.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                tries[number] += 1
                fresh = another(worker)
                if tries[number] > self._retries:
                    raise _loss(error, number, len(self._pieces)) from error
                self._give(fresh, number)
                continue
            if (following := next(left, None)) is not None:
                self._give(worker, following)
            if number is not None:
                missing -= 1
                yield number, result

    def _give(self, worker: Any, number: int | None) -> None:
        """Give an actor a piece, or have it set up."""
        piece = () if number is None else (self._pieces[number],)
        self._at[worker.do.remote(*self._what, *piece)] = worker, number


class _Worker:
    """One process of the cluster."""

    def __init__(self) -> None:
        self._job = ""
        self._work: Any = None
        self._state: Any = None

    def do(self, job: str, what: list[Any], *pieces: Any) -> Any:
        """Set up for a job, unless that is done, and work on its piece if there is one."""
        if self._job != job:
            self._work, setup = ray.get(what[0])
            self._state, self._job = setup(), job
        for piece in pieces:
            return self._work(self._state, piece)
        return None


def _loss(error: Exception, number: int | None, total: int) -> OpenVLAError:
    what = "a worker that was setting up" if number is None else f"piece {number + 1} of {total}"
    return OpenVLAError(
        f"Ray lost {what}: {' '.join(str(error).split()).rstrip('.')}. If memory ran out, raise "
        "cpus_per_task, so that fewer pieces share a machine."
    )
