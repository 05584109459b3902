"""Whether the robot moves, and which way its gripper opens.

Legend of shapes: F frames, E episodes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Dimension, Interface
from openvla_toolkit.core.statistics import Moments
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Grip", "Motion", "grips", "motion_of"]

NO_OP = 1e-4
"""Length of a movement below which LIBERO's preparation drops a frame whose gripper stays as it was."""
SLIGHT = 0.01
"""Share of a dimension's range below which a movement is slight."""
_PAIRS = 200_000
"""Frames from which the agreement of two grippers is judged."""
_FRAMES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How often nothing happens."""

    no_op: float
    """Share of frames that LIBERO's rule calls no-operations: movement below 1e-4, gripper as before."""
    slight: float
    """Share of frames in which every dimension moves less than ``thresholds``, the gripper as before."""
    thresholds: tuple[float, ...]
    """Per dimension of the action that is no gripper, in its order: 1 % of its range."""
    relative: bool
    """Whether these dimensions are movements and come first in the action, as ``skip-idle`` reads it; of
    positions the changes were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grip:
    """One gripper of the action, read as the robot's description says."""

    name: str
    polarity: str
    open: float | None
    """Share of frames in which it is open; None where it never moves."""
    open_at_start: float | None
    """Share of episodes that begin with it open."""
    agreement: float | None
    """Correlation with the gripper of the state, both counted as open when high; None without one."""


def motion_of(index: EpisodeIndex, robot: Interface, moments: Moments) -> Motion:
    """Measure the movements of actions [F, D]; of absolute dimensions, the change from frame to frame."""
    grip = np.array([one.gripper is not None for one in robot.action])
    delta = np.array([one.reference == "delta" for one in robot.action])
    reach = np.where(
        delta, np.maximum(np.abs(moments.q01), np.abs(moments.q99)), (moments.q99 - moments.q01) / 10
    )
    limits = SLIGHT * reach
    starts = np.zeros(index.frames, dtype=bool)
    starts[index.starts[:-1]] = True
    still = slight = 0
    for first in range(0, index.frames, _FRAMES):
        last = min(first + _FRAMES, index.frames)
        rows = index.actions[max(first - 1, 0) : last].astype(np.float64)
        change = np.diff(rows, axis=0, prepend=rows[:1])[len(rows) - (last - first) :]
        begins = starts[first:last]
        moves = np.where(delta, rows[len(rows) - (last - first) :], change)
        moves[np.ix_(begins, ~delta)] = np.inf  # where it goes first is not known
        held = (change[:, grip] == 0).all(axis=1) | begins
        arm = moves[:, ~grip]
        still += int((held & (np.linalg.norm(arm, axis=1) < NO_OP)).sum())
        slight += int((held & (np.abs(arm) <= limits[~grip]).all(axis=1)).sum())
    return Motion(
        no_op=still / index.frames,
        slight=slight / index.frames,
        thresholds=tuple(float(f"{limit:.2g}") for limit in limits[~grip]),
        relative=bool(delta[~grip].all() and not grip[: int((~grip).sum())].any()),
    )


def grips(index: EpisodeIndex, robot: Interface, moments: Moments) -> list[Grip]:
    """Look at every gripper of the action."""
    middles = (moments.min + moments.max) / 2
    seen = _seen(index, robot.state)
    found = []
    for number, one in enumerate(robot.action):
        if one.gripper is None:
            continue
        moving = bool(moments.min[number] < moments.max[number])
        high = one.gripper == "open_high"
        start = index.actions[index.starts[:-1], number]
        count = sum(
            int(((part > middles[number]) == high).sum())
            for part in np.array_split(index.actions[:, number], -(-index.frames // _FRAMES))
        )
        found.append(
            Grip(
                name=one.name,
                polarity=one.gripper,
                open=count / index.frames if moving else None,
                open_at_start=float(((start > middles[number]) == high).mean()) if moving else None,
                agreement=_agreement(
                    index.actions[:: _step(index), number].astype(np.float64) * _sign(one), seen
                ),
            )
        )
    return found


def _seen(index: EpisodeIndex, state: Sequence[Dimension]) -> NDArray[np.float64] | None:
    """Return the first gripper of the state, high when open, of some frames."""
    number = next((number for number, one in enumerate(state) if one.gripper is not None), None)
    if index.states is None or number is None or index.states.shape[1] != len(state):
        return None
    values: NDArray[np.float64] = index.states[:: _step(index), number].astype(np.float64) * _sign(
        state[number]
    )
    return values


def _step(index: EpisodeIndex) -> int:
    return -(-index.frames // _PAIRS)


def _sign(one: Dimension) -> float:
    return 1.0 if one.gripper == "open_high" else -1.0


def _agreement(asked: NDArray[np.float64], seen: NDArray[np.float64] | None) -> float | None:
    if seen is None or asked.std() == 0 or seen.std() == 0:
        return None
    return float(np.corrcoef(asked, seen)[0, 1])
