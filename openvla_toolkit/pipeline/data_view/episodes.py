"""One episode on the page: film strips, curves, the gripper, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Dimension, Interface
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.pages.charts import Series, line_chart
from openvla_toolkit.core.pages.rendering import embedded
from openvla_toolkit.core.pages.strips import fitted, strip
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.data_view.tokens import Tokens, tokens_of
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Curve", "Film", "Shown", "chosen", "show"]

FRAMES = 8
"""Frames of a film strip, at most."""
WIDTH = 160
"""Pixels of one frame of a film strip."""
CHART = (290, 140)
"""Width and height of a curve."""
POINTS = 240
"""Points of a curve, at most; a screen shows no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """The pictures of one camera."""

    camera: str
    picture: str
    """The address of itself; empty where a picture is damaged."""
    damage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One dimension over time."""

    vector: str
    name: str
    unit: str
    svg: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One episode."""

    number: int
    name: str
    instructions: Sequence[str]
    """In the order in which they are told."""
    frames: int
    seconds: float
    at: Sequence[int]
    """The frames of the film strips."""
    films: Sequence[Film]
    bands: Sequence[tuple[str, str, Sequence[tuple[int, int]]]]
    """Ribbons below the film: label, style, runs of frames."""
    curves: Sequence[Curve]
    constant: Sequence[tuple[str, float]]
    """Dimensions that are the same at every frame."""
    tokens: Tokens
    """Of the frames of the film strips."""
    actions: NDArray[np.float32]
    """[frames of the film strips, dimensions]."""


_Vector = tuple[str, NDArray[np.float32], Sequence[Dimension], "NDArray[np.float64] | None"]
"""What it is called, its values at every frame, what they are, and what their tokens read back as."""


def chosen(index: EpisodeIndex, count: int) -> list[int]:
    """Choose episodes evenly over the data set, those with an instruction of their own first."""
    spread = np.unique(np.linspace(0, index.episodes - 1, 4 * count).round().astype(int)).tolist()
    told = [int(index.instruction_of[index.starts[episode]]) for episode in spread]
    first = [episode for at, episode in enumerate(spread) if told[at] not in told[:at]]
    others = [episode for episode in spread if episode not in first]
    picked = _even(first, count)
    return sorted(picked + _even(others, count - len(picked)))


def _even(items: list[int], count: int) -> list[int]:
    if not items or count < 1:
        return []
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, count).round().astype(int)).tolist()]


def show(
    dataset: Dataset[Episode], index: EpisodeIndex, statistics: Statistics, robot: Interface, number: int
) -> Shown:
    """Draw one episode of an index."""
    start, end = int(index.starts[number]), int(index.starts[number + 1])
    at = np.unique(np.linspace(0, end - start - 1, FRAMES).round().astype(int)).tolist()
    actions = index.actions[start:end]
    tokens = tokens_of(actions, statistics.action)
    vectors: list[_Vector] = [("action", actions, robot.action, tokens.back)]
    if index.states is not None:
        vectors.append(("state", index.states[start:end], robot.state, None))
    curves, constant = _curves(vectors)
    told = index.instruction_of[start:end]
    changes = [0, *(np.flatnonzero(np.diff(told)) + 1).tolist()]
    return Shown(
        number=number,
        name=index.names[number],
        instructions=[index.instructions[told[frame]] for frame in changes],
        frames=end - start,
        seconds=(end - start) / robot.control_hz,
        at=at,
        films=[_film(dataset, index, camera, [start + frame for frame in at]) for camera in index.images],
        bands=_bands(index, robot, statistics, start, end),
        curves=curves,
        constant=constant,
        tokens=Tokens(normalized=tokens.normalized[at], ids=tokens.ids[at], back=tokens.back[at]),
        actions=actions[at],
    )


def _film(dataset: Dataset[Episode], index: EpisodeIndex, camera: str, frames: list[int]) -> Film:
    try:
        pictures = [decode(dataset.image(index.images[camera][frame])) for frame in frames]
    except DataError as error:
        return Film(camera=camera, picture="", damage=str(error))
    jpeg = strip([fitted(pixels, WIDTH) for pixels in pictures])
    return Film(camera=camera, picture=embedded(jpeg), damage="")


def _curves(vectors: Sequence[_Vector]) -> tuple[list[Curve], list[tuple[str, float]]]:
    curves: list[Curve] = []
    constant: list[tuple[str, float]] = []
    for vector, values, dimensions, back in vectors:
        for number in range(values.shape[1]):
            known = dimensions[number] if len(dimensions) == values.shape[1] else None
            name = f"{number}" if known is None else known.name
            column = values[:, number]
            if column.min() == column.max():
                constant.append((f"{vector} {name}", float(column[0])))
                continue
            series = [_series(column, "curve")]
            if back is not None:
                series.append(_series(back[:, number], "curve decoded"))
            svg = line_chart(series, title=f"{vector} {name} over the episode", x_label="", size=CHART)
            unit = "" if known is None or known.unit == "1" else known.unit
            curves.append(Curve(vector=vector, name=name, unit=unit, svg=svg))
    return curves, constant


def _series(values: NDArray[Any], style: str) -> Series:
    at = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    return Series(xs=at.tolist(), ys=values[at].astype(np.float64).tolist(), style=style)


def _bands(
    index: EpisodeIndex, robot: Interface, statistics: Statistics, start: int, end: int
) -> list[tuple[str, str, Sequence[tuple[int, int]]]]:
    """Return when each gripper is open, and which frames make no sample."""
    bands: list[tuple[str, str, Sequence[tuple[int, int]]]] = []
    middles = (statistics.action.min + statistics.action.max) / 2
    for number, one in enumerate(robot.action):
        if one.gripper is not None and statistics.action.min[number] < statistics.action.max[number]:
            high = index.actions[start:end, number] > middles[number]
            opened = high if one.gripper == "open_high" else ~high
            bands.append((f"{one.name} open", "open", _runs(opened)))
    if index.samples is not None:
        kept = np.zeros(end - start, dtype=bool)
        first, last = np.searchsorted(index.samples, [start, end])
        kept[index.samples[first:last] - start] = True
        if not kept.all():
            bands.append(("no sample", "idle", _runs(~kept)))
    return bands


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
