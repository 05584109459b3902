"""The data set itself: episodes by position, pictures by the number of their frame or row.

Legend of shapes: T frames of an episode.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile, RecipeError
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, EncodedImage, Episode
from openvla_toolkit.datasets.lerobot.card import LeRobotCard, recorded_robot
from openvla_toolkit.datasets.lerobot.columns import (
    instruction_column,
    instructions,
    picture_feature,
    source_column,
    vector,
)
from openvla_toolkit.datasets.lerobot.layout import INFO, EpisodeEntry, Layout
from openvla_toolkit.datasets.lerobot.pages import picture_bytes, read_bytes
from openvla_toolkit.datasets.lerobot.tables import as_array, groups, read_group
from openvla_toolkit.datasets.rlds.splits import select
from openvla_toolkit.datasets.trace import trace, transformed
from openvla_toolkit.interfaces.transform import KEEP, Passed, Trajectory

__all__ = ["LeRobotDataset"]

ADDRESS = np.dtype(ADDRESS_FIELDS)
HINT_BYTES = 64 * 1024
COUNTERS = ("episode_index", "frame_index")
BYTES = np.uint64(1 << 63)
"""Marks the address of a picture whose bytes lie plainly in the Parquet file."""


class LeRobotDataset:
    """Episodes of one LeRobot data set (``interfaces.dataset.Dataset[Episode]``).

    An address is (file, position of the feature among the picture features, frame of the video or row of
    the Parquet file): a video frame is found by its number, so the set stays as it is. Where pictures lie
    plainly in a Parquet file, it is (file, length, ``BYTES`` + offset), as in RLDS.
    """

    def __init__(self, layout: Layout, *, name: str, split: str, card: LeRobotCard) -> None:
        self.name, self.split, self.card, self.layout = name, split, card, layout
        sizes = {key: len(positions) for key, positions in layout.splits.items()}
        self._episodes: list[EpisodeEntry] = [
            layout.episodes[layout.splits[part.split][position]]
            for part in select(split, sizes)
            for position in range(part.start, part.stop)
        ]
        self._pictures = {
            camera: picture_feature(key, layout, camera=camera) for camera, key in card.cameras.items()
        }
        self._features = list(dict.fromkeys(self._pictures.values()))
        self._files: list[str] = []
        for episode in self._episodes:
            self._files += [
                episode.data,
                *(episode.videos[key].file for key in self._features if self._is_video(key)),
            ]
        self._files = list(dict.fromkeys(self._files))
        self._numbers = {file: number for number, file in enumerate(self._files)}
        told = [source_column(key, layout)[0] for key in (*card.action, *card.state)]
        self._needed = (*COUNTERS, *dict.fromkeys([*told, instruction_column(card.instruction, layout)]))
        self._transforms = [transform.build() for transform in card.transforms]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_transforms"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Functions of a plugin need not be picklable: their settings are.
        self._transforms = [transform.build() for transform in self.card.transforms]

    def describe(self) -> DataDescription:
        """Return name, files, cameras, robot, and the fingerprint of content and settings."""
        return DataDescription(
            name=self.name,
            fingerprint=self._fingerprint,
            files=[str(self.layout.folder / file) for file in self._files],
            cameras=list(self.card.cameras),
            robot=recorded_robot(self.card, self.layout, self._pictures),
            version=self.layout.version,
            splits={name: len(episodes) for name, episodes in self.layout.splits.items()},
        )

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, position: int) -> Episode:
        """Read one episode: transforms applied, pictures as addresses.

        Raises:
            DataError: the bytes are damaged, a number is not finite; names file, episode, frame and key.
            RecipeError: a key of the card does not exist.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
            IndexError: past the end.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"episode {position} of {len(self)} ({self.name}, {self.split})")
        entry = self._episodes[position]
        try:
            recorded = self._trajectory(entry)
            trajectory = transformed(recorded, self._transforms, self.card.transforms)
            return self._episode(trajectory, name=f"episode_{entry.index:06d}")
        except DataError as error:
            raise DataError(
                error.reason,
                file=error.file or self.layout.folder / entry.data,
                episode=entry.index,
                frame=error.frame,
                key=error.key,
            ) from None

    def trace(self, position: int) -> list[Passed]:
        """Return how many frames an episode had as recorded, and after each transform."""
        return trace(self._trajectory(self._episodes[position]), self._transforms, self.card.transforms)

    def image(self, address: np.void) -> EncodedImage:
        """Return a picture: the encoded bytes of an image feature, RGB pixels of a video.

        Raises:
            DataError: the frame does not exist or cannot be decoded.
        """
        path = self.layout.folder / self._files[int(address["file"])]
        if address["offset"] & BYTES:
            return read_bytes(path, int(address["offset"] ^ BYTES), int(address["length"]))
        feature = self._features[int(address["length"])]
        number = int(address["offset"])
        if self._is_video(feature):
            from openvla_toolkit.datasets.lerobot.video import read_frame

            return read_frame(path, number, fps=self.layout.fps)
        return self._stored_picture(path, number, feature)

    def _is_video(self, feature: str) -> bool:
        return self.layout.features[feature].dtype == "video"

    def _stored_picture(self, path: Path, row: int, feature: str) -> bytes:
        """Return one cell of an image column: its own bytes, or those of the file that it names."""
        starts = groups(path).starts
        number = int(np.searchsorted(starts, row, side="right")) - 1
        if not 0 <= row < starts[-1]:
            raise DataError(f"the file has {starts[-1]} rows.", file=path, frame=row, key=feature)
        cell: Any = read_group(path, number, (feature,)).column(0)[row - starts[number]].as_py()
        if isinstance(cell, dict) and cell.get("bytes"):
            return bytes(cell["bytes"])
        place: str | None = cell.get("path") if isinstance(cell, dict) else None
        if not place:
            raise DataError("the row holds no picture.", file=path, frame=row, key=feature)
        try:
            return (self.layout.folder / place).read_bytes()
        except FileNotFoundError:
            raise MissingFile(f"{self.layout.folder / place} does not exist; {path} names it.") from None

    def _trajectory(self, entry: EpisodeEntry) -> dict[str, Any]:
        """Return the columns of one episode in the order of its frames, and addresses of its pictures.

        Transforms are given all columns; without them only those are read that the card names.
        """
        path = self.layout.folder / entry.data
        where = groups(path)
        if missing := [key for key in COUNTERS if key not in where.names]:
            raise DataError("there is no such column.", file=path, key=missing[0])
        enough = not self._transforms and set(self._needed) <= set(where.names)
        columns = (*self._needed, *({KEEP} & set(where.names))) if enough else tuple(where.names)
        parts: list[dict[str, NDArray[Any]]] = []
        for number in where.holding(entry.index):
            parts.append(self._part(path, number, columns, entry.index))
        rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}
        frames = rows.get("frame_index", np.empty(0, np.int64))
        order = np.argsort(frames, kind="stable")
        if len(frames) != entry.length or not np.array_equal(frames[order], np.arange(entry.length)):
            raise DataError(
                f"expected the frames 0 to {entry.length - 1} of the episode, found {len(frames)} rows"
                f"{f' with frames {frames.min()} to {frames.max()}' if len(frames) else ''}.",
                file=path,
            )
        trajectory = {key: values[order] for key, values in rows.items()}
        row = trajectory.pop("#row")
        for number, feature in enumerate(self._features):
            video = entry.videos[feature] if self._is_video(feature) else None
            addresses = np.zeros(entry.length, dtype=ADDRESS)
            addresses["file"] = self._numbers[video.file if video else entry.data]
            addresses["length"] = number
            addresses["offset"] = row if video is None else video.first + np.arange(entry.length)
            if video is None and (placed := picture_bytes(path, feature)) is not None:
                addresses["length"] = placed.lengths[row]
                addresses["offset"] = placed.offsets[row] | BYTES
            trajectory[feature] = addresses
        return trajectory

    @staticmethod
    def _part(path: Path, number: int, columns: tuple[str, ...], episode: int) -> dict[str, NDArray[Any]]:
        """Return the rows of one row group that belong to an episode; ``#row`` counts in the file."""
        table = read_group(path, number, columns)
        wanted = np.flatnonzero(as_array(table.column("episode_index")).reshape(-1) == episode)
        part = {"#row": wanted + groups(path).starts[number]}
        low, high = (int(wanted[0]), int(wanted[-1]) + 1) if len(wanted) else (0, 0)
        for key in columns:
            try:
                part[key] = as_array(table.column(key).slice(low, high - low))[wanted - low]
            except ValueError as error:
                raise DataError(f"{error}.", file=path, key=key) from None
        part["frame_index"] = part["frame_index"].reshape(-1)
        return part

    def _episode(self, trajectory: Trajectory, *, name: str) -> Episode:
        actions = vector(trajectory, self.card.action, self.layout, setting="action")
        states = (
            vector(trajectory, self.card.state, self.layout, setting="state") if self.card.state else None
        )
        self._check_sizes(actions, states)
        keep = trajectory.get(KEEP)
        return Episode(
            name=name,
            images={camera: self._addresses(trajectory, camera) for camera in self.card.cameras},
            states=states,
            actions=actions,
            instructions=instructions(trajectory, self.card.instruction, self.layout),
            keep=None if keep is None else np.asarray(keep, dtype=bool).reshape(-1),
        )

    def _addresses(self, trajectory: Trajectory, camera: str) -> NDArray[Any]:
        feature = self._pictures[camera]
        if feature not in trajectory:
            raise RecipeError(f"the transforms drop '{feature}'.", path=f"cameras.{camera}")
        addresses: NDArray[Any] = trajectory[feature]
        return addresses

    def _check_sizes(self, actions: NDArray[np.float32], states: NDArray[np.float32] | None) -> None:
        robot = self.card.embodiment
        for what, found, described in (("action", actions, robot.action), ("state", states, robot.state)):
            if found is not None and described and found.shape[1] != len(described):
                names = ", ".join(dimension.name for dimension in described)
                raise ContractMismatch(
                    f"{self.name}: the {what} has {found.shape[1]} numbers, the embodiment '{robot.name}' "
                    f"describes {len(described)} ({names}). Give the embodiment that was recorded."
                )

    @cached_property
    def _fingerprint(self) -> str:
        """Hash the meta data, each file's name, size and time of change, the footers, and the settings."""
        digest = hashlib.sha256((self.layout.folder / INFO).read_bytes())
        tables = {episode.data for episode in self._episodes}
        for file in self._files:
            path = self.layout.folder / file
            try:
                status = path.stat()
                digest.update(f"{file}:{status.st_size}:{status.st_mtime_ns}".encode())
                if file in tables:
                    with path.open("rb") as stream:
                        stream.seek(max(status.st_size - HINT_BYTES, 0))
                        digest.update(stream.read())
            except FileNotFoundError:
                raise MissingFile(
                    f"{path} does not exist: the data set is incomplete; download it again."
                ) from None
        told = [self.split, sorted(self.layout.tasks.items()), self._episodes]
        digest.update(repr(told).encode())
        digest.update(
            json.dumps(self.card.model_dump(mode="json", exclude={"embodiment"}), sort_keys=True).encode()
        )
        return digest.hexdigest()
