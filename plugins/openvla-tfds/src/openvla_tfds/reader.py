"""The data set itself: episodes by position, images by episode, feature and frame.

tensorflow-datasets reads in one direction: an episode that does not follow the one before costs opening its
file and reading up to it. What was read last stays in memory.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_tfds import TFDSConfig
from openvla_tfds.builder import Part, content_of, open_builder, parts_of, steps_of, tf
from openvla_tfds.features import described, image_keys, repeated, values
from openvla_tfds.streams import stream_of
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.interfaces.dataset import EpisodeMaker
from openvla_toolkit.interfaces.transform import Passed

__all__ = ["TFDSDataset"]

ADDRESS = np.dtype(ADDRESS_FIELDS)
EPISODES_KEPT = 16
"""Episodes in memory per process, images encoded."""
EPISODE, FEATURE = 32, 24
"""The offset of an address holds the frame and, from these bits on, the number of the image feature and the
episode; its length is that of the image."""
METADATA = "traj_metadata"


class TFDSDataset:
    """Episodes of a TFDS builder (``interfaces.dataset.Dataset[Episode]``); copies may be pickled."""

    def __init__(self, config: TFDSConfig) -> None:
        self._config = config
        self._open()

    def _open(self) -> None:
        config = self._config
        self._stream = stream_of(config.via)
        self._builder = open_builder(config)
        self._parts = parts_of(self._builder, config.split)
        self._ends = list(accumulate(part.stop - part.start for part in self._parts))
        self._steps = steps_of(self._builder)
        self._images = list(image_keys(self._steps))
        self._make = _episode_maker(config, self._builder)
        self._kept: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._next = -1
        self._ahead: Iterator[Mapping[str, Any]] = iter(())

    def __reduce__(self) -> tuple[type[TFDSDataset], tuple[TFDSConfig]]:
        """Pickle the settings: TensorFlow's objects stay in their process."""
        return TFDSDataset, (self._config,)

    def describe(self) -> DataDescription:
        """Return name, folder, cameras, robot, and the fingerprint of content and settings."""
        return DataDescription(
            name=self._config.dataset,
            fingerprint=self._fingerprint,
            files=[str(self._builder.data_dir)],
            cameras=list(self._make.cameras),
            robot=self._make.robot,
            version=str(self._builder.info.version),
            splits={name: info.num_examples for name, info in self._builder.info.splits.items()},
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, position: int) -> Episode:
        """Read one episode: transforms applied, images as addresses.

        Raises:
            DataError: it cannot be read, a number is not finite; names episode, frame and key.
            RecipeError: a key of cameras, state, instruction or action does not exist in the trajectory.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
            IndexError: past the end.
        """
        part, number = self._locate(position)
        try:
            return self._make(self.trajectory(position), name=f"{part.split}:{number}")
        except DataError as error:
            raise DataError(
                error.reason,
                file=error.file or self._builder.data_dir,
                episode=f"{part.split}:{number}",
                frame=error.frame,
                key=error.key,
            ) from None

    def trajectory(self, position: int) -> dict[str, Any]:
        """Return one episode as the data set's own features name it, before any transform."""
        episode = dict(self._read(position))
        steps = values(self._steps, episode.pop("steps"))
        length = len(next(iter(tf.nest.flatten(steps))))
        for number, key in enumerate(self._images):
            *folders, name = key.split("/")
            place = steps
            for folder in folders:
                place = place[folder]
            place[name] = _addresses(place[name], position, number)
        about = {name: values(self._builder.info.features[name], value) for name, value in episode.items()}
        return {**steps, METADATA: repeated(about, length)} if about else steps

    def trace(self, position: int) -> list[Passed]:
        """Return how many frames an episode had as recorded, and after each transform."""
        return self._make.trace(self.trajectory(position))

    def image(self, address: np.void) -> bytes:
        """Return the encoded image at an address; the episodes read last are at hand.

        Raises:
            DataError: the episode cannot be read.
        """
        position, rest = divmod(int(address["offset"]), 1 << EPISODE)
        number, frame = divmod(rest, 1 << FEATURE)
        found: Any = self._read(position)["steps"]
        for name in self._images[number].split("/"):
            found = found[name]
        return bytes(found[frame])

    def ahead(self, addresses: NDArray[Any]) -> Sequence[bytes]:
        """Read the images at these addresses in the order of their episodes; see ``ReadsAhead``."""
        found: dict[int, bytes] = {}
        for place in np.argsort(addresses["offset"], kind="stable").tolist():
            found[place] = self.image(addresses[place])
        return [found[place] for place in range(len(addresses))]

    def _read(self, position: int) -> Mapping[str, Any]:
        """Return an episode as TFDS gives it: from memory, the stream that is open, or a new one."""
        part, number = self._locate(position)
        if position in self._kept:
            self._kept.move_to_end(position)
            return self._kept[position]
        try:
            if position != self._next:
                rest = part._replace(start=number)
                self._ahead = iter(self._stream(self._builder, rest))
            episode = next(self._ahead, None)
        except tf.errors.OpError as error:
            self._next = -1
            raise DataError(
                f"TensorFlow cannot read it: {str(error.message).splitlines()[0].rstrip('.')}; copy or "
                "download the data set again.",
                file=self._builder.data_dir,
                episode=f"{part.split}:{number}",
            ) from error
        if episode is None:
            self._next = -1
            raise DataError(
                "it is missing: the files hold fewer episodes than the data set's description promises; copy "
                "or download the data set again.",
                file=self._builder.data_dir,
                episode=f"{part.split}:{number}",
            )
        self._next = position + 1 if number + 1 < part.stop else -1
        self._kept[position] = episode
        if len(self._kept) > EPISODES_KEPT:
            self._kept.popitem(last=False)
        return episode

    def _locate(self, position: int) -> tuple[Part, int]:
        """Return part and number in its split of an episode."""
        if not 0 <= position < len(self):
            raise IndexError(f"episode {position} of {len(self)} ({self._config.dataset})")
        index = bisect_right(self._ends, position)
        part = self._parts[index]
        return part, part.stop - (self._ends[index] - position)

    @cached_property
    def _fingerprint(self) -> str:
        """Hash features, each file's name, size and time of change, and the settings."""
        content = [described(self._builder.info.features), content_of(self._builder, self._parts)]
        settings = [self._parts, self._make.settings]
        return hashlib.sha256(json.dumps([content, settings], sort_keys=True).encode()).hexdigest()


def _episode_maker(config: TFDSConfig, builder: Any) -> EpisodeMaker:
    """Have the trajectories read as the data set ``rlds`` reads them."""
    keys = ("dataset", "cameras", "state", "instruction", "action", "transforms", "embodiment")
    settings = {key: getattr(config, key) for key in keys}
    rlds: Any = load("dataset", "rlds").model_validate({"root": str(builder.data_dir), **settings})
    maker: EpisodeMaker = rlds.episode_maker(described(builder.info.features))
    return maker


def _addresses(images: NDArray[Any], position: int, feature: int) -> NDArray[Any]:
    addresses = np.zeros(len(images), dtype=ADDRESS)
    addresses["length"] = [len(image) for image in images]
    addresses["offset"] = (position << EPISODE) + (feature << FEATURE) + np.arange(len(images))
    return addresses
