"""What a conversion reads: which splits, which episodes, and what is known of them before any is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.places import picture_errors
from openvla_toolkit.core.types import DataDescription, EncodedImage, Episode
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.pipeline.episode_ranges import episode_ranges
from openvla_toolkit.pipeline.index_pieces import Skipped

__all__ = ["Chosen", "Measured", "measure", "split_ranges", "whole"]


class Measured(NamedTuple):
    """What is known of the source once all numbers were read."""

    positions: list[int]
    """Of the episodes that are copied."""
    lengths: list[int]
    """Their frames."""
    instructions: list[str]
    keeps: bool
    skipped: list[Skipped]


class Chosen:
    """The episodes of a data set that are copied (``interfaces.dataset.Dataset[Episode]``)."""

    def __init__(self, source: Dataset[Episode], positions: Sequence[int]) -> None:
        self._source, self._positions = source, positions

    def describe(self) -> DataDescription:
        """Return the description of the whole."""
        return self._source.describe()

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: int) -> Episode:
        """Read one episode without its images."""
        return self._source[self._positions[position]]

    def image(self, address: np.void) -> EncodedImage:
        """Read the image at an address."""
        return self._source.image(address)


def whole(config: DatasetConfig) -> DatasetConfig:
    """Return settings that read all splits, unless these choose some or the kind has none."""
    if "split" in type(config).model_fields and "split" not in config.model_fields_set:
        return config.model_copy(update={"split": "all"})
    return config


def split_ranges(
    config: DatasetConfig, description: DataDescription, positions: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Return split -> its first episode and the one past the last, counted in what is copied.

    All splits of the source stay what they are; a part that was chosen becomes ``train``.
    """
    if getattr(config, "split", None) != "all" or not description.splits:
        return {"train": (0, len(positions))}
    ends = np.cumsum(list(description.splits.values()))
    stops = np.searchsorted(positions, ends).tolist()
    ranges = zip(description.splits, zip([0, *stops], stops, strict=False), strict=True)
    return {name: (first, stop) for name, (first, stop) in ranges if first < stop}


def measure(config: DatasetConfig, workers: Executor, tell: Callable[[int, int], None]) -> Measured:
    """Read the numbers of all episodes once; with ``on_error: skip`` their pictures too.

    A copy is planned whole before its first shard is written. An episode of which a picture turned out to be
    damaged later could not be left out any more, so who wants that pays for decoding all pictures.

    Raises:
        DataError: an episode is damaged; with ``on_error: skip``: none is whole.
    """
    total = len(config.build())
    ranges = episode_ranges(total)
    found: dict[int, Measured] = {}
    read = partial(_measure_range, skip=config.on_error == "skip")
    with closing(workers.map(read, ranges, setup=config.build)) as parts:
        for number, part in parts:
            found[number] = part
            tell(sum(len(one.lengths) + len(one.skipped) for one in found.values()), total)
    ordered = [found[number] for number in range(len(ranges))]
    skipped = [one for part in ordered for one in part.skipped]
    if len(skipped) == total:
        raise DataError(f"none of its {total} episodes is whole. The first: {skipped[0].reason}")
    return Measured(
        positions=[position for part in ordered for position in part.positions],
        lengths=[length for part in ordered for length in part.lengths],
        instructions=list(dict.fromkeys(text for part in ordered for text in part.instructions)),
        keeps=any(part.keeps for part in ordered),
        skipped=skipped,
    )


def _measure_range(source: Dataset[Episode], positions: range, *, skip: bool) -> Measured:
    found = Measured([], [], [], False, [])
    instructions: dict[str, None] = {}
    keeps = False
    for position in positions:
        try:
            episode = source[position]
            if not len(episode):
                raise DataError("it has no frames.", episode=episode.name)
            if skip:
                _check_pictures(source, episode)
        except DataError as error:
            if not skip:
                raise
            found.skipped.append(Skipped(position, str(error)))
            continue
        found.positions.append(position)
        found.lengths.append(len(episode))
        instructions |= dict.fromkeys(episode.instructions)
        keeps |= episode.keep is not None
    return found._replace(instructions=list(instructions), keeps=keeps)


def _check_pictures(source: Dataset[Episode], episode: Episode) -> None:
    for camera, addresses in episode.images.items():
        for frame, address in enumerate(addresses):
            with picture_errors(source, episode, camera, frame):
                decode(source.image(address))
