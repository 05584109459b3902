"""Which episodes of a data set samples are made from, and what became of the others.

Legend of shapes: E episodes, F frames, S frames from which a transform lets samples be made, R runs of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Filters
from openvla_toolkit.core.errors import DataError, RecipeError
from openvla_toolkit.core.statistics import Moments, Statistics, normalize
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Choice", "Dropped", "Selection", "choose", "refuse_unlabeled", "sift"]

_FRAMES = 65536
"""Frames that are normalised at a time."""


class Selection:
    """Positions in a data set's samples, as runs: memory grows with the episodes that are left out only."""

    def __init__(self, bounds: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """Select of E pieces, which begin and end at ``bounds`` [E + 1], those that are ``kept`` [E]."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], kept.astype(np.int8), [0]])))
        self._firsts = np.asarray(bounds[edges[::2]])
        """[R] where a run begins."""
        self._ends = np.cumsum(bounds[edges[1::2]] - self._firsts)
        """[R] how many are selected up to the end of a run."""

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> int:
        """Return the position of the selected sample ``number``."""
        run = int(np.searchsorted(self._ends, number, side="right"))
        return int(self._firsts[run] + number - (self._ends[run - 1] if run else 0))


class Dropped(NamedTuple):
    """Episodes that were left out for one reason."""

    reason: str
    """``unlabeled``, ``max_action`` or ``max_state``."""
    episodes: int
    frames: int
    first: str
    """Name of the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The samples of a data set."""

    selection: Selection | None
    """Positions in the index's samples; None for all."""
    dropped: Sequence[Dropped]


def choose(
    index: EpisodeIndex,
    statistics: Statistics,
    filters: Filters,
    rule: Normalization,
    *,
    dataset: str,
    skip: bool = False,
) -> Choice:
    """Apply the filters to what a run is to be trained on; see ``sift``.

    Args:
        skip: drop what would be refused (``on_error: skip``).

    Raises:
        DataError: an episode has no instruction and nobody said what to do with such, or none is left.
        RecipeError: a limit can drop nothing, because the rule clips, or because there is no state.
    """
    refuse_unlabeled(index, filters, dataset=dataset, skip=skip)
    _refuse_idle(filters, statistics, rule, dataset=dataset)
    choice = sift(index, statistics, filters, rule, dataset=dataset)
    if choice.selection is not None and not len(choice.selection):
        told = ", ".join(f"{one.reason} drops {one.episodes}" for one in choice.dropped)
        raise DataError(f"no sample is left of {index.episodes} episodes: {told}.", key=dataset)
    return choice


def sift(
    index: EpisodeIndex, statistics: Statistics, filters: Filters, rule: Normalization, *, dataset: str
) -> Choice:
    """Apply the filters, in the original's order, to the numbers as the policy is given them.

    An episode that several filters would drop is counted for the first. Nothing may be left.

    Raises:
        RecipeError: there is a limit of the state, and the data set has no state.
    """
    if filters.max_state is not None and (index.states is None or statistics.proprio is None):
        raise RecipeError(
            f"'{dataset}' has no state that could be beyond a limit: leave it out, or give the data set "
            "'state'.",
            path="filters.max_state",
        )
    kept = np.ones(index.episodes, dtype=bool)
    dropped = []
    for reason, passes in _verdicts(index, statistics, filters, rule):
        out = np.flatnonzero(kept & ~passes)
        if len(out):
            frames = int((index.starts[out + 1] - index.starts[out]).sum())
            dropped.append(Dropped(reason, len(out), frames, index.names[out[0]]))
        kept &= passes
    return Choice(selection=None if kept.all() else Selection(_bounds(index), kept), dropped=dropped)


def refuse_unlabeled(index: EpisodeIndex, filters: Filters, *, dataset: str, skip: bool) -> None:
    """Check that somebody said what to do with episodes without an instruction, if there are any.

    Raises:
        DataError: nobody did; names the first such episode.
    """
    if skip or filters.unlabeled != "refuse":
        return
    out = np.flatnonzero(~_labeled(index))
    if len(out):
        raise DataError(
            f"nothing was said to the robot: the instruction is empty at every frame. {len(out)} of "
            f"{index.episodes} episodes of '{dataset}' are like this. Give the data set 'filters: "
            "{unlabeled: drop}' to leave them out, as OpenVLA does, or 'unlabeled: keep' to train on them.",
            episode=index.names[out[0]],
            frame=0,
            key="task",
        )


def _refuse_idle(filters: Filters, statistics: Statistics, rule: Normalization, *, dataset: str) -> None:
    """Refuse limits beyond which a rule that clips to [-1, 1] leaves no number.

    Numbers that the rule leaves as they are (grippers) may be beyond: as far as the statistics say.
    """
    if not rule.clip or rule.method not in ("bounds_q99", "bounds"):
        return
    limits = (
        ("max_action", filters.max_action, statistics.action),
        ("max_state", filters.max_state, statistics.proprio),
    )
    for key, limit, moments in limits:
        if limit is None or limit < 1 or moments is None:
            continue
        bare = ~(moments.mask | (not rule.mask))
        if (np.maximum(np.abs(moments.min), np.abs(moments.max))[bare] <= limit).all():
            raise RecipeError(
                f"{limit:g} would never drop an episode of '{dataset}': the policy's normalization, "
                f"{rule.method}, clips to [-1, 1]. Give a limit below 1 or a 'policy.normalization' that "
                "does not clip (openvla-normal, openpi-quantile), or leave it out.",
                path=f"filters.{key}",
            )


def _labeled(index: EpisodeIndex) -> NDArray[np.bool_]:
    """Return in which episodes the robot was told something [E]."""
    told = np.array([text != "" for text in index.instructions], dtype=bool)
    if told.all():
        return np.ones(index.episodes, dtype=bool)
    labeled: NDArray[np.bool_] = np.logical_or.reduceat(told[index.instruction_of], index.starts[:-1])
    return labeled


def _verdicts(
    index: EpisodeIndex, statistics: Statistics, filters: Filters, rule: Normalization
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield for every filter that is asked for which episodes pass [E]."""
    if filters.unlabeled != "keep":
        yield "unlabeled", _labeled(index)
    if filters.max_action is not None:
        yield "max_action", _within(index.actions, index, statistics.action, rule, filters.max_action)
    if filters.max_state is not None:
        assert index.states is not None
        assert statistics.proprio is not None
        yield "max_state", _within(index.states, index, statistics.proprio, rule, filters.max_state)


def _within(
    values: NDArray[np.float32], index: EpisodeIndex, moments: Moments, rule: Normalization, limit: float
) -> NDArray[np.bool_]:
    """Return which episodes hold no normalised number beyond the limit, either way [E]."""
    inside = np.empty(len(values), dtype=bool)
    for first in range(0, len(values), _FRAMES):
        some = slice(first, first + _FRAMES)
        inside[some] = (np.abs(normalize(values[some], moments, rule)) <= limit).all(axis=1)
    verdict: NDArray[np.bool_] = np.logical_and.reduceat(inside, index.starts[:-1])
    return verdict


def _bounds(index: EpisodeIndex) -> NDArray[np.int64]:
    """Return where the samples of every episode begin and end [E + 1]."""
    if index.samples is None:
        return index.starts
    return np.searchsorted(index.samples, index.starts).astype(np.int64)
