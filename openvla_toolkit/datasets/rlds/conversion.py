"""Write the episodes of any data set as RLDS, one TFRecord file per shard."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as Picture
from pydantic import Field

from openvla_toolkit.core.component import Section
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.places import picture_errors
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import (
    Dataset,
    Feature,
    FeaturesDict,
    Image,
    Scalar,
    Tensor,
    Text,
)
from openvla_toolkit.datasets.rlds.layout import shard_name
from openvla_toolkit.datasets.rlds.tfrecord import write_record
from openvla_toolkit.datasets.rlds.writer import serialize_episode, split_info, write_description
from openvla_toolkit.interfaces.dataset import Dataset as Source
from openvla_toolkit.interfaces.dataset import WritePlan
from openvla_toolkit.interfaces.transform import KEEP

__all__ = ["RLDSShardWriter", "WriteSettings"]

MAGIC = {"jpeg": b"\xff\xd8", "png": b"\x89PNG"}


class WriteSettings(Section):
    """What can be chosen of an RLDS data set that is written."""

    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+$")
    pictures: Literal["jpeg", "png"] = "jpeg"
    """Pictures that are stored so already keep their bytes; others are encoded (JPEG: quality 95, 4:4:4)."""


class RLDSShardWriter:
    """Writes shards (``interfaces.dataset.DatasetWriter``) below ``<folder>/<version>``."""

    def __init__(self, plan: WritePlan, settings: WriteSettings) -> None:
        self.plan, self.settings = plan, settings
        self._features = _features(plan, settings)

    def write(self, source: Source[Episode], shard: int, folder: Path) -> Mapping[str, Any]:
        """Write one TFRecord file; see ``DatasetWriter.write``."""
        first, stop = self.plan.shards[shard]
        path = folder / self.settings.version / self._file_name(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        total = 0
        with path.open("wb") as stream:
            for position in range(first, stop):
                data = serialize_episode(self._features, self._nested(source, source[position]))
                write_record(stream, data)
                total += len(data)
            stream.flush()
            os.fsync(stream.fileno())
        return {"episodes": stop - first, "bytes": total}

    def finish(self, folder: Path, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write features, description and card; see ``DatasetWriter.finish``."""
        robot = self.plan.robot.model_dump(mode="json", exclude_defaults=True)
        card = DatasetCard(
            cameras={camera: _key(camera) for camera in self.plan.cameras},
            state=["state"] if self.plan.robot.state else [],
            embodiment=load("embodiment", "custom").model_validate({"name": "custom", **robot}),
        )
        splits = [
            split_info(
                split,
                lengths=[reports[shard]["episodes"] for shard in self._shards(split)],
                total_bytes=sum(reports[shard]["bytes"] for shard in self._shards(split)),
            )
            for split in self.plan.splits
        ]
        write_description(
            folder / self.settings.version,
            dataset=self.plan.name,
            version=self.settings.version,
            description="",
            features=self._features,
            card=card,
            splits=splits,
        )

    def reader(self, folder: Path) -> RLDSConfig:
        """Return the settings that read the finished folder."""
        return RLDSConfig(root=folder, dataset=self.plan.name)

    def _shards(self, split: str) -> list[int]:
        start, stop = self.plan.splits[split]
        return [number for number, (first, _) in enumerate(self.plan.shards) if start <= first < stop]

    def _file_name(self, shard: int) -> str:
        split = next(name for name in self.plan.splits if shard in self._shards(name))
        mine = self._shards(split)
        return shard_name(self.plan.name, split, mine.index(shard), len(mine))

    def _nested(self, source: Source[Episode], episode: Episode) -> dict[str, Any]:
        frames = np.arange(len(episode))
        observation: dict[str, Any] = {
            _key(camera): [self._stored(source, episode, camera, int(frame)) for frame in frames]
            for camera in self.plan.cameras
        }
        if episode.states is not None:
            observation["state"] = episode.states
        last = frames == len(episode) - 1
        steps = {
            "observation": observation,
            "action": episode.actions,
            "is_first": frames == 0,
            "is_last": last,
            "is_terminal": last,
            "language_instruction": list(episode.instructions),
        }
        if self.plan.keeps:
            steps[KEEP] = np.ones(len(episode), bool) if episode.keep is None else episode.keep
        return {"steps": steps, "episode_metadata": {"file_path": episode.name}}

    def _stored(self, source: Source[Episode], episode: Episode, camera: str, frame: int) -> Any:
        """Return what is stored of a picture: its own bytes where their format fits, else pixels or a PNG."""
        wanted = self.settings.pictures
        with picture_errors(source, episode, camera, frame):
            picture = source.image(episode.images[camera][frame])
            pixels = decode(picture)  # even where its bytes are kept: a damaged picture is not copied on
            if isinstance(picture, bytes) and picture.startswith(MAGIC[wanted]):
                return picture
        if wanted == "jpeg":
            return pixels
        stream = io.BytesIO()
        Picture.fromarray(pixels).save(stream, format="PNG")
        return stream.getvalue()


def _features(plan: WritePlan, settings: WriteSettings) -> FeaturesDict:
    observation: dict[str, Feature] = {}
    for camera in plan.cameras:
        size = plan.robot.cameras[camera]
        observation[_key(camera)] = Image((size.height, size.width, 3), settings.pictures)
    if plan.robot.state:
        observation["state"] = Tensor((len(plan.robot.state),), "float32")
    step: dict[str, Feature] = {
        "observation": FeaturesDict(observation),
        "action": Tensor((len(plan.robot.action),), "float32"),
        "is_first": Scalar("bool"),
        "is_last": Scalar("bool"),
        "is_terminal": Scalar("bool"),
        "language_instruction": Text(),
    }
    if plan.keeps:
        step[KEEP] = Scalar("bool")
    about: dict[str, Feature] = {"file_path": Text()}
    return FeaturesDict({"steps": Dataset(FeaturesDict(step)), "episode_metadata": FeaturesDict(about)})


def _key(camera: str) -> str:
    return f"image_{camera}"
