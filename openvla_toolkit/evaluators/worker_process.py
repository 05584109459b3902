"""The other side of ``workers.py``: what runs in a worker process.

A worker holds several environments, one per slot. It gets an order for each of some slots, carries them out
one after the other and answers with as many replies in one message.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.types import Observation
from openvla_toolkit.evaluators.episodes import EpisodePlan, Outcome
from openvla_toolkit.evaluators.filmstrip import film

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.environment import Environment, EnvironmentConfig

__all__ = ["Act", "Failure", "Film", "Order", "Reply", "Start", "serve"]


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
class Failure:
    """What went wrong in a worker, in a form that can always be sent."""

    message: str
    exit_code: int
    trace: str


def serve(pipe: Connection, environment: EnvironmentConfig, cameras: tuple[str, ...]) -> None:
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

    def carry_out(self, share: Mapping[int, Order]) -> dict[int, Reply] | Failure:
        replies: dict[int, Reply] = {}
        for slot, order in share.items():
            try:
                replies[slot] = self._slot(slot).carry_out(order)
            except Exception as error:  # a stranger's environment may raise anything; tell where
                return self._failure(order.plan, error)
        return replies

    def close(self) -> None:
        for slot in self._slots.values():
            slot.environment.close()

    def _slot(self, slot: int) -> _Slot:
        if slot not in self._slots:
            self._slots[slot] = _Slot(self._config.build(), self._cameras)
        return self._slots[slot]

    def _failure(self, plan: EpisodePlan, error: Exception) -> Failure:
        cause = str(error) if isinstance(error, OpenVLAError) else f"{type(error).__name__}: {error}"
        return Failure(
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
        for action in np.asarray(order.actions, dtype=np.float32):
            if self._expert is not None:
                self._advice.append(np.asarray(self._expert(), dtype=np.float32))
            self._actions.append(action)
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
