"""Which frames of an episode a sample is made of: those seen before, the actions to come, the goal."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.data_sections import Goals

__all__ = ["goal_frame", "history", "padded"]

_GOALS = 0x60A1
"""Keeps the draw of the goal apart from other draws for the same sample."""


def history(frame: int, *, first: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the ``size`` frames up to ``frame`` [size], and which of them there were [size].

    Before the ``first`` frame of the episode there is nothing, and it stands in (the original's
    ``chunk_act_obs``).
    """
    frames = frame + np.arange(1 - size, 1)
    return np.maximum(frames, first), frames >= first


def padded(actions: NDArray[np.float32], *, size: int, absolute: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return ``size`` actions [size, A] that begin with those given [N, A], 1 <= N <= ``size``.

    Past the end of an episode, or of the way to a goal, a robot stays as it is: zeros for relative
    dimensions, the last value for absolute ones. As in the original's ``chunk_act_obs`` these are zeros of
    the normalised numbers: the middle of the range, which is near standing still and seldom exactly that.
    """
    chunk = actions[np.minimum(np.arange(size), len(actions) - 1)]
    chunk[len(actions) :, ~absolute] = 0
    return chunk


def goal_frame(frame: int, *, first: int, stop: int, rule: Goals, seed: int, number: int) -> int:
    """Return a later frame whose pictures are shown as the goal; the last one of the episode has only itself.

    The episode has the frames from ``first`` to before ``stop``. A pure function of seed and number of the
    sample. ``uniform`` is the original's relabelling, the others are those of dlimp.
    """
    left = stop - 1 - frame
    if left < 1:
        return frame
    draw = float(np.random.default_rng((seed, number, _GOALS)).random())
    if rule.name == "uniform":
        ahead = math.floor(draw * left)
    elif rule.name == "last-upweighted":
        ahead = math.floor(draw * (stop - first - 1))
    else:
        ahead = math.floor(math.log1p(-draw * (1 - rule.discount**left)) / math.log(rule.discount))
    return frame + 1 + min(ahead, left - 1)
