"""Statistics of a data set from its index; images are never touched.

Two passes over the numbers, in pieces that are counted wherever the executor works and added up here: the
first gives means, deviations, extremes and the buckets of the quantiles, the second the quantiles themselves.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from math import floor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.core.storage import atomic_write_text
from openvla_toolkit.core.tally import Tally, count_within, number_at
from openvla_toolkit.core.worker import InTurn
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.pipeline.episode_checks import check_widths
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["compute_statistics"]

QUANTILES = (0.01, 0.99)
ROWS = 1 << 23
"""Frames of a piece, a second or two of work: less is not worth a process."""
Result = TypeVar("Result")


def compute_statistics(
    index: EpisodeIndex, robot: Interface, *, executor: Executor | None = None
) -> Statistics:
    """Return mean, population std, extremes and the 1 % and 99 % quantiles (linear, in float64), all exact.

    Grippers are masked: their numbers are used as they are (the original's ``action_normalization_mask``).
    What was computed is kept beside the index, and read from there the next time.

    Args:
        executor: where the frames are counted; None for this process.

    Raises:
        ContractMismatch: the robot's vectors have other widths than those of the index.
        DataError: the file beside the index is damaged.
        StorageError: the disk is full.
    """
    widths = {"actions": index.actions.shape[1]}
    if index.states is not None:
        widths["states"] = index.states.shape[1]
    check_widths(robot, actions=widths["actions"], states=widths.get("states"), place=f"index {index.folder}")
    mask = np.array([dimension.gripper is None for dimension in robot.action])
    path = index.folder / f"statistics.{''.join('01'[used] for used in mask.tolist())}.json"
    if path.exists():
        return _read(path)
    moments = _measure(index, widths, executor or InTurn())
    statistics = Statistics(
        action=Moments(**moments["actions"], mask=mask),
        proprio=None
        if index.states is None
        else Moments(**moments["states"], mask=np.ones(index.states.shape[1], dtype=bool)),
        num_transitions=index.frames,
        num_trajectories=index.episodes,
    )
    atomic_write_text(path, json.dumps(statistics.to_json()))
    return statistics


def _read(path: Path) -> Statistics:
    try:
        return Statistics.from_json(json.loads(path.read_text()), place="statistics")
    except (ValueError, DataError) as error:
        raise DataError(f"the statistics are damaged: {error} Delete the file.", file=path) from error


Columns = dict[str, Result]
"""Of the index, by name."""


class _Part(NamedTuple):
    """Some frames of the index."""

    first: int
    last: int
    buckets: Columns[NDArray[np.int64]]
    """[D, R] which ones are counted within, in the second pass; in the first, only the keys matter."""


def _measure(
    index: EpisodeIndex, widths: Columns[int], executor: Executor
) -> Columns[dict[str, NDArray[np.float64]]]:
    itself, none = partial(_opened, index), np.empty((0, 0), np.int64)
    parts = [
        _Part(first, first + ROWS, dict.fromkeys(widths, none)) for first in range(0, index.frames, ROWS)
    ]
    tallies = {name: Tally.nothing(width) for name, width in widths.items()}
    with closing(executor.map(_count, parts, setup=itself)) as counted:
        for counts in _in_order(counted):
            for name, tally in tallies.items():
                tally.merge(counts[name])
    places = [(index.frames - 1) * q for q in QUANTILES]
    ranks = [rank for place in places for rank in (floor(place), min(floor(place) + 1, index.frames - 1))]
    found = {name: tally.find(ranks) for name, tally in tallies.items()}
    parts = [part._replace(buckets={name: buckets for name, (buckets, _) in found.items()}) for part in parts]
    inside = {name: np.zeros((width, len(ranks), 1 << 16), np.int64) for name, width in widths.items()}
    with closing(executor.map(_count_within, parts, setup=itself)) as refined:
        for _, more in refined:
            for name, sums in inside.items():
                sums += more[name]
    return {
        name: _figures(tally, number_at(*found[name], inside[name]), places)
        for name, tally in tallies.items()
    }


def _figures(
    tally: Tally, neighbours: NDArray[np.float32], places: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Interpolate between the two numbers around each quantile, as NumPy does in float64."""
    pairs = neighbours.astype(np.float64).reshape(len(neighbours), len(places), 2)
    low, high = (
        np.quantile(pairs[:, number], place - floor(place), axis=1) for number, place in enumerate(places)
    )
    extremes = {"min": tally.min.astype(np.float64), "max": tally.max.astype(np.float64)}
    return {"mean": tally.mean, "std": tally.std, "q01": low, "q99": high} | extremes


def _in_order(results: Generator[tuple[int, Result], None, None]) -> Generator[Result, None, None]:
    """Yield results in the order of the pieces: sums of floats depend on it, in the last digit."""
    early: dict[int, Result] = {}
    wanted = 0
    for number, result in results:
        early[number] = result
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


def _opened(index: EpisodeIndex) -> EpisodeIndex:
    return index


def _values(index: EpisodeIndex, part: _Part) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name in part.buckets:
        yield name, getattr(index, name)[part.first : part.last]


def _count(index: EpisodeIndex, part: _Part) -> Columns[Tally]:
    return {name: Tally.of(values) for name, values in _values(index, part)}


def _count_within(index: EpisodeIndex, part: _Part) -> Columns[NDArray[np.uint32]]:
    return {name: count_within(values, part.buckets[name]) for name, values in _values(index, part)}
