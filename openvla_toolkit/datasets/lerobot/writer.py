"""Write LeRobot data sets, v3.0 (many episodes per file) and v2.1 (one file per episode)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from openvla_toolkit.core.component import Section
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.places import picture_errors
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.datasets.lerobot.card import LeRobotCard, save_card
from openvla_toolkit.datasets.lerobot.finish import CHUNK, TEMPLATES, finish
from openvla_toolkit.datasets.lerobot.schema import data_schema, picture_key, write_episodes
from openvla_toolkit.datasets.lerobot.statistics import PixelCounts, column_statistics, sampled_frames
from openvla_toolkit.interfaces.dataset import Dataset, WritePlan
from openvla_toolkit.interfaces.transform import KEEP

__all__ = ["LeRobotWriter", "WriteSettings"]


class WriteSettings(Section):
    """What can be chosen of a LeRobot data set that is written."""

    version: Literal["v3.0", "v2.1"] = "v3.0"
    pictures: Literal["video", "image"] = "video"
    """``image`` keeps the source's JPEG or PNG bytes in the tables, without any loss."""
    codec: Literal["libsvtav1", "libx264"] = "libsvtav1"
    """LeRobot's default is AV1; H.264 is decoded everywhere."""
    crf: int = Field(default=30, ge=0, le=63)
    """Lower is better and larger."""
    keyframe_every: int = Field(default=2, gt=0)
    """Frames; small, because training jumps about."""


class LeRobotWriter:
    """Writes shards (``interfaces.dataset.DatasetWriter``): one file per shard in v3.0."""

    def __init__(self, plan: WritePlan, settings: WriteSettings) -> None:
        self.plan, self.settings = plan, settings
        self._tasks = {text: number for number, text in enumerate(plan.instructions)}
        self._starts = np.concatenate([[0], np.cumsum(plan.lengths)]).astype(np.int64)

    def write(self, source: Dataset[Episode], shard: int, folder: Path) -> Mapping[str, Any]:
        """Write the tables and videos of one shard; see ``DatasetWriter.write``."""
        positions = range(*self.plan.shards[shard])
        groups = (
            [(shard, positions)] if self._together else [(position, [position]) for position in positions]
        )
        rows: list[dict[str, Any]] = []
        counted: dict[str, PixelCounts] = {camera: PixelCounts() for camera in self.plan.cameras}
        for number, members in groups:
            rows += self._write_file(source, number, list(members), folder, counted)
        return {"episodes": rows, "pixels": {camera: counts.to_json() for camera, counts in counted.items()}}

    def finish(self, folder: Path, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write ``meta/``; see ``DatasetWriter.finish``."""
        finish(folder, self.plan, self.settings.model_dump(), reports)
        robot = self.plan.robot.model_dump(mode="json", exclude_defaults=True)
        card = LeRobotCard(
            cameras={camera: picture_key(camera) for camera in self.plan.cameras},
            state=["observation.state"] if self.plan.robot.state else [],
            embodiment=load("embodiment", "custom").model_validate({"name": "custom", **robot}),
        )
        save_card(card, folder)

    def reader(self, folder: Path) -> LeRobotConfig:
        """Return the settings that read the finished folder."""
        return LeRobotConfig(root=folder, dataset=self.plan.name)

    @property
    def _together(self) -> bool:
        return self.settings.version == "v3.0"

    def _place(self, number: int) -> dict[str, int]:
        """Return what the path templates need for file (v3.0) or episode (v2.1) ``number``."""
        if self._together:
            return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}
        return {"episode_chunk": number // CHUNK, "episode_index": number}

    def _write_file(
        self,
        source: Dataset[Episode],
        number: int,
        positions: Sequence[int],
        folder: Path,
        counted: Mapping[str, PixelCounts],
    ) -> list[dict[str, Any]]:
        """Write one table and its videos; return one row of meta data per episode."""
        place = self._place(number)
        episodes = {position: source[position] for position in positions}
        columns = {position: self._columns(position, episode) for position, episode in episodes.items()}
        rows = [
            self._row(position, episode, columns[position], place) for position, episode in episodes.items()
        ]
        pixels = {camera: {position: PixelCounts() for position in positions} for camera in counted}
        if self.settings.pictures == "video":
            for camera in counted:
                self._write_video(source, camera, episodes, folder, place, pixels[camera])
                for row, first in zip(rows, self._firsts(positions), strict=True):
                    row.update(self._video_row(picture_key(camera), place, first, row["length"]))
        schema = data_schema(self.plan, image=self.settings.pictures == "image")
        path = folder / self._template("data", **place)
        write_episodes(path, schema, self._tables(source, episodes, columns, pixels))
        for row in rows:
            for camera, counts in counted.items():
                here = pixels[camera][row["episode_index"]]
                row["stats"][picture_key(camera)] = here.statistics()
                counts.merge(here)
        return rows

    def _template(self, kind: Literal["data", "video"], **place: Any) -> str:
        return TEMPLATES[self.settings.version][kind].format(**place)

    def _firsts(self, positions: Sequence[int]) -> list[int]:
        lengths = [self.plan.lengths[position] for position in positions]
        return [sum(lengths[:position]) for position in range(len(lengths))]

    def _video_row(self, key: str, place: Mapping[str, int], first: int, length: int) -> dict[str, Any]:
        if not self._together:
            return {}
        fps = self.plan.robot.control_hz
        return {
            f"videos/{key}/chunk_index": place["chunk_index"],
            f"videos/{key}/file_index": place["file_index"],
            f"videos/{key}/from_timestamp": first / fps,
            f"videos/{key}/to_timestamp": (first + length) / fps,
        }

    def _columns(self, position: int, episode: Episode) -> dict[str, NDArray[Any]]:
        """Return the numbers of one episode by column, [T] or [T, N]."""
        frames = np.arange(len(episode))
        columns: dict[str, NDArray[Any]] = {"action": episode.actions}
        if episode.states is not None:
            columns["observation.state"] = episode.states
        if self.plan.keeps:
            columns[KEEP] = np.ones(len(episode), bool) if episode.keep is None else episode.keep
        return columns | {
            "timestamp": (frames / self.plan.robot.control_hz).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(len(episode), position, np.int64),
            "index": self._starts[position] + frames,
            "task_index": np.array([self._tasks[text] for text in episode.instructions], np.int64),
        }

    def _row(
        self, position: int, episode: Episode, columns: Mapping[str, NDArray[Any]], place: Mapping[str, int]
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "episode_index": position,
            "tasks": list(dict.fromkeys(episode.instructions)),
            "length": len(episode),
            "stats": {key: column_statistics(values) for key, values in columns.items()},
        }
        if self._together:
            row |= {"data/chunk_index": place["chunk_index"], "data/file_index": place["file_index"]}
            row["dataset_from_index"] = int(self._starts[position])
            row["dataset_to_index"] = int(self._starts[position + 1])
        return row

    def _write_video(
        self,
        source: Dataset[Episode],
        camera: str,
        episodes: Mapping[int, Episode],
        folder: Path,
        place: Mapping[str, int],
        pixels: Mapping[int, PixelCounts],
    ) -> None:
        from openvla_toolkit.datasets.lerobot.video import encode_video

        path = folder / self._template("video", video_key=picture_key(camera), **place)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"crf": str(self.settings.crf), "g": str(self.settings.keyframe_every)}
        if self.settings.codec == "libsvtav1":
            options["preset"] = "12"

        def frames() -> Iterator[NDArray[np.uint8]]:
            for position, episode in episodes.items():
                sampled = set(sampled_frames(len(episode)).tolist())
                for frame, address in enumerate(episode.images[camera]):
                    with picture_errors(source, episode, camera, frame):
                        picture = decode(source.image(address))
                    if frame in sampled:
                        pixels[position].add(picture)
                    yield picture

        fps = self.plan.robot.control_hz
        encode_video(path, frames(), fps=fps, codec=self.settings.codec, options=options)

    def _tables(
        self,
        source: Dataset[Episode],
        episodes: Mapping[int, Episode],
        columns: Mapping[int, Mapping[str, NDArray[Any]]],
        pixels: Mapping[str, Mapping[int, PixelCounts]],
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the columns of one episode after the other, with pictures where they go into the table."""
        for position, episode in episodes.items():
            if self.settings.pictures == "video":
                yield columns[position]
                continue
            stored = {}
            for camera, counts in pixels.items():
                sampled = set(sampled_frames(len(episode)).tolist())
                encoded: list[bytes] = []
                for frame, address in enumerate(episode.images[camera]):
                    with picture_errors(source, episode, camera, frame):
                        encoded.append(_encoded(source.image(address)))
                        shown = decode(encoded[frame])  # each one: a damaged picture is not copied on
                    if frame in sampled:
                        counts[position].add(shown)
                stored[picture_key(camera)] = encoded
            yield {**columns[position], **stored}


def _encoded(picture: bytes | NDArray[np.uint8]) -> bytes:
    """Return the file of a picture: its own, or a PNG of its pixels.

    Raises:
        DataError: it is an empty file.
    """
    if isinstance(picture, bytes):
        if not picture:
            raise DataError("the picture is an empty file.")
        return picture
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()
