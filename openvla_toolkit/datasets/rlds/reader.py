"""The data set itself: episodes by position, numbers decoded, images left where they lie.

Legend of shapes: T steps of an episode, A action numbers, P state numbers.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, RecipeError
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.core.types import DataDescription, Episode
from openvla_toolkit.datasets.rlds.card import DatasetCard, addressed
from openvla_toolkit.datasets.rlds.columns import decode
from openvla_toolkit.datasets.rlds.episodes import EpisodesByCard
from openvla_toolkit.datasets.rlds.example import WireError, parse_example
from openvla_toolkit.datasets.rlds.features import Dataset, FeaturesDict, Sequence, load_features
from openvla_toolkit.datasets.rlds.layout import DatasetInfo
from openvla_toolkit.datasets.rlds.splits import select
from openvla_toolkit.datasets.rlds.tfrecord import (
    Shard,
    open_shards,
    read_ranges,
    record,
    record_offsets,
    will_need,
)
from openvla_toolkit.datasets.rlds.trajectory import METADATA, length_of, repeat
from openvla_toolkit.interfaces.transform import Passed

__all__ = ["RLDSDataset"]

HINT_BYTES = 64 * 1024
FEATURES = "features.json"


class _Run(NamedTuple):
    """Consecutive records of one shard."""

    file: int
    first: int
    length: int
    promised: int
    """Records that the whole shard should have."""


class RLDSDataset:
    """Episodes of one RLDS data set (``interfaces.dataset.Dataset[Episode]``).

    Opening reads only ``dataset_info.json`` and ``features.json``; a shard is scanned for its record offsets
    when an episode of it is first asked for. Files are mapped per process; copies may be pickled or forked.
    Behind a URL, episodes are read from a temporary copy of their shard, pictures by their range of bytes.
    """

    def __init__(
        self, folder: Path | RemotePath, *, name: str, split: str, card: DatasetCard, verify: bool = True
    ) -> None:
        info = DatasetInfo.load(folder)
        self.name, self.split, self.card, self.verify = name, split, card, verify
        self.features = load_features(folder / FEATURES)
        self._steps(self.features, folder)
        if isinstance(folder, RemotePath):
            (folder / FEATURES).check_ranges()
        self._folder, self._info = folder, info
        self._files: dict[Shard, int] = {}
        self._runs: list[_Run] = []
        for part in select(split, info.sizes):
            self._add(info, part.split, part.start, part.stop)
        self._shards = list(self._files)
        self._ends = list(accumulate(run.length for run in self._runs))
        self._episode = EpisodesByCard(card, self.features, dataset=name)

    def describe(self) -> DataDescription:
        """Return name, shard files, cameras, robot, and the fingerprint of content and settings."""
        return DataDescription(
            name=self.name,
            fingerprint=self._fingerprint,
            files=[shard.path for shard in self._shards],
            cameras=list(self.card.cameras),
            robot=self._episode.robot,
            version=self._info.version,
            splits=self._info.sizes,
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, position: int) -> Episode:
        """Read one episode: transforms applied, images as addresses.

        Raises:
            DataError: the bytes are damaged, a number is not finite; names file, episode, frame and key.
            RecipeError: a key of cameras, state, instruction or action does not exist in the trajectory.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
            IndexError: past the end.
        """
        shard, number, _ = self._locate(position)
        trajectory = self.trajectory(position)
        try:
            return self._episode(trajectory, name=f"{Path(shard.path).name}:{number}")
        except DataError as error:
            raise DataError(
                error.reason, file=shard.path, episode=number, frame=error.frame, key=error.key
            ) from None
        except RecipeError as error:
            raise addressed(error, self.card, self._folder, dataset=self.name) from None

    def trajectory(self, position: int) -> dict[str, Any]:
        """Return one episode as the data set's own features name it, before any transform."""
        shard, number, file = self._locate(position)
        base, data = record(shard, number, verify=self.verify)
        try:
            episode = decode(self.features, parse_example(data), file=file, base=base)
            steps = episode.pop("steps")
            length = length_of(steps)
        except WireError as error:
            reason = f"it is not a tf.train.Example: {error} of the data that begin at byte {base}."
            raise DataError(reason, file=shard.path, episode=number) from None
        except DataError as error:
            raise DataError(error.reason, file=shard.path, episode=number, key=error.key) from None
        return {**steps, METADATA: repeat(episode, length)} if episode else dict(steps)

    def trace(self, position: int) -> list[Passed]:
        """Return how many frames an episode had as recorded, and after each transform."""
        return self._episode.trace(self.trajectory(position))

    def image(self, address: np.void) -> bytes:
        """Return the encoded image (JPEG or PNG file) at an address.

        Raises:
            DataError: the address points past the end of its file.
        """
        shard = self._shards[int(address["file"])]
        start = int(address["offset"])
        end = start + int(address["length"])
        if end > shard.size:
            raise DataError(
                f"an image at bytes {start} to {end} lies past the end of the file, which has {shard.size}; "
                "build the index anew.",
                file=shard.path,
            )
        return read_ranges(shard, [(start, end)])[0]

    def ahead(self, addresses: NDArray[Any]) -> list[bytes] | None:
        """Return images behind a URL, read together; have the system read those of local files.

        Raises:
            DataError: a file cannot be read or has become shorter; names it.
        """
        if isinstance(self._folder, Path):
            for file, length, offset in addresses.tolist():
                will_need(self._shards[file], offset, offset + length)
            return None
        images: list[bytes] = [b""] * len(addresses)
        for file in np.unique(addresses["file"]).tolist():
            here = np.flatnonzero(addresses["file"] == file).tolist()
            ranges = [(offset, offset + length) for _, length, offset in addresses[here].tolist()]
            for number, image in zip(here, read_ranges(self._shards[file], ranges), strict=True):
                images[number] = image
        return images

    @staticmethod
    def _steps(features: FeaturesDict, folder: Path | RemotePath) -> None:
        steps = features.features.get("steps")
        if not isinstance(steps, (Dataset, Sequence)) or not isinstance(steps.feature, FeaturesDict):
            raise DataError(
                "expected a Dataset of named features: the set is not RLDS (one record per episode).",
                file=folder / FEATURES,
                key="steps",
            )

    def _add(self, info: DatasetInfo, split: str, start: int, stop: int) -> None:
        """Note which records of which shards make up episodes ``start`` to ``stop`` of a split."""
        first, runs = 0, {}
        for file_name, count in info.shards[split].items():
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                runs[file_name] = (begin - first, end - begin, count)
            first += count
        for shard, run in zip(open_shards(info.folder, list(runs)), runs.values(), strict=True):
            self._runs.append(_Run(self._files.setdefault(shard, len(self._files)), *run))

    def _locate(self, position: int) -> tuple[Shard, int, int]:
        """Return shard, record number and file number of an episode."""
        if not 0 <= position < len(self):
            raise IndexError(f"episode {position} of {len(self)} ({self.name}, {self.split})")
        index = bisect_right(self._ends, position)
        run = self._runs[index]
        shard = self._shards[run.file]
        found = len(record_offsets(shard))
        if found != run.promised:
            raise DataError(
                f"it holds {found} records, dataset_info.json promises {run.promised}: "
                "the file is truncated or of another version; copy or download it again.",
                file=shard.path,
            )
        return shard, run.first + position - (self._ends[index] - run.length), run.file

    @cached_property
    def _fingerprint(self) -> str:
        """Hash the features, each shard's name, size, time of change, first and last bytes, and the settings.

        A file that is changed in place is thus read and checked anew; only what alters bytes and not the time
        (a dying disk) is not seen here. Of a file behind a URL, name, size and the mark or time that its
        server tells must do.
        """
        digest = hashlib.sha256((self._folder / FEATURES).read_bytes())
        for shard in self._shards:
            digest.update(f"{Path(shard.path).name}:{shard.size}:{shard.changed}".encode())
            if isinstance(self._folder, Path):
                ends = (0, min(HINT_BYTES, shard.size)), (max(shard.size - HINT_BYTES, 0), shard.size)
                digest.update(b"".join(read_ranges(shard, ends)))
        digest.update(json.dumps([self.split, self._episode.settings], sort_keys=True).encode())
        return digest.hexdigest()
