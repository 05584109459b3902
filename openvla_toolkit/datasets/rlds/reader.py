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

from openvla_toolkit.core.errors import ContractMismatch, DataError, RecipeError
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.columns import decode
from openvla_toolkit.datasets.rlds.example import WireError, parse_example
from openvla_toolkit.datasets.rlds.features import Dataset, FeaturesDict, Sequence, load_features
from openvla_toolkit.datasets.rlds.layout import DatasetInfo
from openvla_toolkit.datasets.rlds.robot import recorded_robot
from openvla_toolkit.datasets.rlds.splits import select
from openvla_toolkit.datasets.rlds.tfrecord import Shard, mapped, open_shard, record, record_offsets
from openvla_toolkit.datasets.rlds.trajectory import METADATA, find, length_of, numbers, repeat, texts
from openvla_toolkit.interfaces.transform import KEEP, Trajectory

__all__ = ["RLDSDataset"]

ADDRESS = np.dtype(ADDRESS_FIELDS)
HINT_BYTES = 64 * 1024


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
    """

    def __init__(
        self, folder: Path, *, name: str, split: str, card: DatasetCard, verify: bool = True
    ) -> None:
        info = DatasetInfo.load(folder)
        self.name, self.split, self.card, self.verify = name, split, card, verify
        self.features = load_features(folder / "features.json")
        self._steps(self.features, folder)
        self._folder = folder
        self._files: dict[Shard, int] = {}
        self._runs: list[_Run] = []
        for part in select(split, info.sizes):
            self._add(info, part.split, part.start, part.stop)
        self._shards = list(self._files)
        self._ends = list(accumulate(run.length for run in self._runs))
        self._transforms = [transform.build() for transform in card.transforms]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_transforms"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Functions of a plugin need not be picklable: their settings are.
        self._transforms = [transform.build() for transform in self.card.transforms]

    def describe(self) -> DataDescription:
        """Return name, shard files, cameras, robot, and the fingerprint of content and settings."""
        return DataDescription(
            name=self.name,
            fingerprint=self._fingerprint,
            files=[shard.path for shard in self._shards],
            cameras=list(self.card.cameras),
            robot=recorded_robot(self.card, self.features),
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
        trajectory: Trajectory = self.trajectory(position)
        for transform in self._transforms:
            trajectory = transform(trajectory)
        try:
            return self._episode(trajectory, name=f"{Path(shard.path).name}:{number}")
        except DataError as error:
            raise DataError(
                error.reason, file=shard.path, episode=number, frame=error.frame, key=error.key
            ) from None

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
        return bytes(mapped(shard)[start:end])

    @staticmethod
    def _steps(features: FeaturesDict, folder: Path) -> None:
        steps = features.features.get("steps")
        if not isinstance(steps, (Dataset, Sequence)) or not isinstance(steps.feature, FeaturesDict):
            raise DataError(
                "expected a Dataset of named features: the set is not RLDS (one record per episode).",
                file=folder / "features.json",
                key="steps",
            )

    def _add(self, info: DatasetInfo, split: str, start: int, stop: int) -> None:
        """Note which records of which shards make up episodes ``start`` to ``stop`` of a split."""
        first = 0
        for file_name, count in info.shards[split].items():
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                shard = open_shard(info.folder / file_name)
                file = self._files.setdefault(shard, len(self._files))
                self._runs.append(_Run(file, begin - first, end - begin, count))
            first += count

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

    def _episode(self, trajectory: Trajectory, *, name: str) -> Episode:
        actions = numbers(find(trajectory, self.card.action, setting="action"), key=self.card.action)
        observation = trajectory.get("observation", {})
        images = {camera: self._camera(observation, camera) for camera in self.card.cameras}
        instructions = texts(
            find(trajectory, self.card.instruction, setting="instruction"), key=self.card.instruction
        )
        state = self._state(observation, len(actions))
        lengths = {f"cameras.{camera}": len(image) for camera, image in images.items()}
        lengths |= {"instruction": len(instructions), "state": len(actions if state is None else state)}
        for key, length in lengths.items():
            if length != len(actions):
                raise DataError(f"it has {length} frames, the actions have {len(actions)}.", key=key)
        self._check_sizes(actions, state)
        keep = trajectory.get(KEEP)
        return Episode(
            name=name,
            images=images,
            states=state,
            actions=actions,
            instructions=instructions,
            keep=None if keep is None else np.asarray(keep, dtype=bool),
        )

    def _camera(self, observation: Any, camera: str) -> NDArray[Any]:
        key = self.card.cameras[camera]
        addresses = find(observation, key, setting=f"cameras.{camera}")
        if getattr(addresses, "dtype", None) != ADDRESS:
            raise RecipeError(f"'observation/{key}' does not hold images.", path=f"cameras.{camera}")
        found: NDArray[Any] = addresses
        return found

    def _state(self, observation: Any, length: int) -> NDArray[np.float32] | None:
        if not self.card.state:
            return None
        parts = [
            np.zeros((length, 1), np.float32)
            if key is None
            else numbers(find(observation, key, setting=f"state.{index}"), key=f"observation/{key}")
            for index, key in enumerate(self.card.state)
        ]
        if any(len(part) != length for part in parts):
            raise DataError(
                f"its parts have {[len(part) for part in parts]} frames, the actions {length}.", key="state"
            )
        return np.concatenate(parts, axis=1)

    def _check_sizes(self, actions: NDArray[np.float32], state: NDArray[np.float32] | None) -> None:
        robot = self.card.embodiment
        if robot is None:
            return
        for what, found, described in (("action", actions, robot.action), ("state", state, robot.state)):
            if found is not None and described and found.shape[1] != len(described):
                names = ", ".join(dimension.name for dimension in described)
                raise ContractMismatch(
                    f"{self.name}: the {what} has {found.shape[1]} numbers, the embodiment '{robot.name}' "
                    f"describes {len(described)} ({names}). Give the embodiment that was recorded, or the "
                    "transforms that bring the data to it."
                )

    @cached_property
    def _fingerprint(self) -> str:
        """Hash the features, each shard's name, size, time of change, first and last bytes, and the settings.

        A file that is changed in place is thus read and checked anew; only what alters bytes and not the time
        (a dying disk) is not seen here.
        """
        digest = hashlib.sha256((self._folder / "features.json").read_bytes())
        for shard in self._shards:
            data = mapped(shard)
            changed = Path(shard.path).stat().st_mtime_ns
            digest.update(f"{Path(shard.path).name}:{shard.size}:{changed}".encode())
            digest.update(data[:HINT_BYTES])
            digest.update(data[-HINT_BYTES:])
        settings = self.card.model_dump(mode="json", exclude={"embodiment", "generated"})
        digest.update(json.dumps([self.split, settings], sort_keys=True).encode())
        return digest.hexdigest()
