"""The data card: everything that is measured of a data set, and what of it one should look after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface, Normalization
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
from openvla_toolkit.interfaces.transform import Traced
from openvla_toolkit.pipeline.data_card.measures import Measure, measured
from openvla_toolkit.pipeline.data_card.motion import Grip, Motion, grips, motion_of
from openvla_toolkit.pipeline.data_card.pictures import Pictures, pictures_of
from openvla_toolkit.pipeline.data_card.wording import Wording, wording_of
from openvla_toolkit.pipeline.filters import Dropped, sift
from openvla_toolkit.pipeline.index import EpisodeIndex
from openvla_toolkit.pipeline.index_pieces import Skipped

__all__ = ["DataCard", "Lengths", "Twins", "Worn", "make_card"]

TRACED = 64
"""Episodes whose way through the transforms is followed."""
BARS = 24
"""Bars of the histogram of lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Frames per episode."""

    shortest: int
    median: float
    mean: float
    longest: int
    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worn:
    """What one transform takes away, in the episodes that were followed."""

    transform: Mapping[str, Any]
    """Its settings."""
    frames: int
    """Frames that are gone."""
    samples: int
    """Frames that stay and make no samples any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Episodes with the very same actions."""

    episodes: int
    """How many could go."""
    examples: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """One data set, as a recipe would read it."""

    name: str
    kind: str
    version: str | None
    split: str | None
    splits: Mapping[str, int]
    robot: Interface
    statistics: Statistics
    episodes: int
    frames: int
    samples: int
    """Frames from which samples are made."""
    skipped: Sequence[Skipped]
    """Damaged episodes."""
    filtered: Sequence[Dropped]
    """Episodes that the recipe's filters leave out."""
    rule: Normalization | None
    """How numbers were normalised before the filters' limits were laid on them; None where there are none."""
    traced: int
    """Episodes that were followed through the transforms."""
    worn: Sequence[Worn]
    lengths: Lengths
    wording: Wording
    measures: Sequence[Measure]
    motion: Motion
    grips: Sequence[Grip]
    pictures: Sequence[Pictures]
    twins: Twins

    @property
    def seconds(self) -> float:
        """How long all episodes last at the control rate."""
        return self.frames / self.robot.control_hz


def make_card(
    config: DatasetConfig, dataset: Dataset[Episode], index: EpisodeIndex, statistics: Statistics
) -> DataCard:
    """Measure an indexed data set; pictures are not decoded, but for videos: some headers are read.

    Numbers are gone through in portions: beside the index, memory grows with the episodes, not with frames.

    Raises:
        ContractMismatch: the data set holds no robot's episodes.
        DataError: an episode that is followed through the transforms is damaged.
        RecipeError: the filters limit a state, and there is none.
    """
    about = dataset.describe()
    if about.robot is None:
        raise ContractMismatch(f"{about.name} holds no robot's episodes; only these have a card.")
    measures = measured("action", index.actions, statistics.action, about.robot.action)
    if index.states is not None and statistics.proprio is not None:
        measures += measured("state", index.states, statistics.proprio, about.robot.state)
    rule = Normalization()  # OpenVLA's: a data set does not know the policy that will be trained on it
    choice = sift(index, statistics, config.filters, rule, dataset=about.name)
    samples = index.frames if index.samples is None else len(index.samples)
    limited = config.filters.max_action is not None or config.filters.max_state is not None
    remote = any("://" in file for file in about.files)
    traced, worn = _followed(dataset, {one.episode for one in index.skipped}, spread=not remote)
    return DataCard(
        name=about.name,
        kind=str(config.name),
        version=about.version,
        split=getattr(config, "split", None),
        splits=about.splits,
        robot=about.robot,
        statistics=statistics,
        episodes=index.episodes,
        frames=index.frames,
        samples=samples if choice.selection is None else len(choice.selection),
        skipped=index.skipped,
        filtered=choice.dropped,
        rule=rule if limited else None,
        traced=traced,
        worn=worn,
        lengths=_lengths(np.diff(index.starts)),
        wording=wording_of(index),
        measures=measures,
        motion=motion_of(index, about.robot, statistics.action),
        grips=grips(index, about.robot, statistics.action),
        pictures=pictures_of(dataset, index),
        twins=_twins(index),
    )


def _followed(dataset: Dataset[Episode], damaged: set[int], *, spread: bool) -> tuple[int, list[Worn]]:
    """Follow some episodes through the transforms: the first, or such as lie evenly over the data set."""
    if not isinstance(dataset, Traced):
        return 0, []
    whole = [position for position in range(len(dataset)) if position not in damaged]
    last = len(whole) - 1 if spread else min(len(whole), TRACED) - 1  # each remote shard costs a copy of it
    chosen = np.unique(np.linspace(0, last, TRACED).astype(np.int64)).tolist()
    ways = [dataset.trace(whole[number]) for number in chosen]
    worn = []
    for number in range(1, len(ways[0])):
        frames = sum(way[number - 1].frames - way[number].frames for way in ways)
        samples = sum(way[number - 1].samples - way[number].samples for way in ways) - frames
        worn.append(Worn(transform=ways[0][number].transform, frames=frames, samples=samples))
    return len(ways), worn


def _lengths(lengths: NDArray[np.int64]) -> Lengths:
    bars = int(min(BARS, lengths.max() - lengths.min() + 1))
    counts, edges = np.histogram(lengths, bins=bars)
    return Lengths(
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        mean=float(lengths.mean()),
        longest=int(lengths.max()),
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def _twins(index: EpisodeIndex) -> Twins:
    """Find episodes of the same actions by a hash of their bytes."""
    groups: dict[bytes, list[int]] = {}
    for episode in range(index.episodes):
        rows = index.actions[index.starts[episode] : index.starts[episode + 1]]
        groups.setdefault(blake2b(rows.tobytes(), digest_size=16).digest(), []).append(episode)
    several = [group for group in groups.values() if len(group) > 1]
    return Twins(
        episodes=sum(len(group) - 1 for group in several),
        examples=[[index.names[episode] for episode in group[:4]] for group in several[:4]],
    )
