"""The data that all loaders of this group read: made once, kept in the system's temporary folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFilter

from openvla_toolkit.core.registry import load
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import Dataset, Feature, FeaturesDict, Image, Scalar, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import RLDSWriter, serialize_episode
from openvla_toolkit.embodiments import CustomConfig
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.pipeline.convert import Job, convert

__all__ = [
    "EPISODES",
    "FRAMES",
    "SIZE",
    "data_folder",
    "large_rlds_set",
    "lerobot_set",
    "rlds_set",
    "scratch",
]

EPISODES, LENGTH, SIZE = 30, 100, 256
FRAMES = EPISODES * LENGTH
QUALITY = 95
DISCS, SMALLEST, NOISE = 1500, 4, 2.0
"""Of a scene: how many, their smallest radius, and the standard deviation of the camera's noise."""
COPIES = 8
"""Of all episodes in the larger set."""
SHARD_BYTES = 24 * 1024 * 1024
ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
CAMERA = {"height": SIZE, "width": SIZE, "codec": ["jpeg"]}


def data_folder() -> Path:
    """Return the folder that the sets are kept in; its name changes when what is made changes."""
    return Path(tempfile.gettempdir()) / f"openvla-benchmark-data-{EPISODES}x{LENGTH}x{SIZE}-q{QUALITY}"


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is removed afterwards, and keep indexes there instead of in the user's cache."""
    before = os.environ.get("OPENVLA_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OPENVLA_CACHE"] = str(Path(folder) / "cache")
        try:
            yield Path(folder)
        finally:
            os.environ.pop("OPENVLA_CACHE")
            if before is not None:
                os.environ["OPENVLA_CACHE"] = before


def rlds_set() -> DatasetConfig:
    """Return an RLDS set in several shards, JPEG at quality 95 with halved colour as TFDS encodes."""
    root = data_folder()
    if not (root / "leaves").exists():
        with RLDSWriter(
            root, dataset="leaves", features=_features(), card=_card(), shard_bytes=SHARD_BYTES
        ) as writer:
            for number in range(EPISODES):
                writer.write(_episode(number))
    return _config("rlds", {"root": root / "leaves", "dataset": "leaves"})


def large_rlds_set() -> DatasetConfig:
    """Return a larger set of the same episodes over and over."""
    root = data_folder()
    if not (root / "many_leaves").exists():
        episodes = [serialize_episode(_features(), _episode(number)) for number in range(EPISODES)]
        with RLDSWriter(
            root, dataset="many_leaves", features=_features(), card=_card(), shard_bytes=SHARD_BYTES
        ) as writer:
            for _ in range(COPIES):
                for episode in episodes:
                    writer.write_serialized(episode)
    return _config("rlds", {"root": root / "many_leaves", "dataset": "many_leaves"})


def lerobot_set(kind: str) -> DatasetConfig:
    """Return the same episodes as a LeRobot v3.0 set.

    ``video`` or ``image`` features, or ``image-compressed``: as LeRobot's own writer lays out images.
    """
    folder = data_folder() / f"lerobot-{kind}"
    if not folder.exists() and kind == "image-compressed":
        plain = lerobot_set("image")
        _compressed(plain.root, folder)  # type: ignore[attr-defined]  # of LeRobotConfig
    if not folder.exists():
        convert(Job(source=rlds_set(), destination=folder, to="lerobot", settings={"pictures": kind}))
    return _config("lerobot", {"root": folder})


def _compressed(source: Path, destination: Path) -> None:
    """Copy a set with its tables written as pyarrow does by default: compressed, values in dictionaries."""
    unfinished = destination.with_suffix(".unfinished")
    shutil.copytree(source, unfinished, dirs_exist_ok=True)
    for path in unfinished.glob("data/*/*.parquet"):
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)
    unfinished.rename(destination)


def _config(kind: str, settings: Mapping[str, Any]) -> DatasetConfig:
    config: Any = load("dataset", kind).model_validate(settings)
    assert isinstance(config, DatasetConfig)
    return config


def _card() -> DatasetCard:
    action = [{"name": name, "unit": "1", "reference": "delta"} for name in ACTIONS]
    robot = {"cameras": {"primary": CAMERA}, "action": action, "control_hz": 10}
    return DatasetCard(cameras={"primary": "image"}, embodiment=CustomConfig.model_validate(robot))


def _features() -> FeaturesDict:
    step: dict[str, Feature] = {
        "observation": FeaturesDict({"image": Image((SIZE, SIZE, 3))}),
        "action": Tensor((len(ACTIONS),), "float32"),
        "is_first": Scalar("bool"),
        "is_last": Scalar("bool"),
        "language_instruction": Text(),
    }
    return FeaturesDict({"steps": Dataset(FeaturesDict(step))})


def _episode(number: int) -> dict[str, Any]:
    generator = np.random.default_rng(number)
    scene, gripper = _leaves(generator), _leaves(generator)[: SIZE // 4, : SIZE // 4]
    pictures = [_picture(scene, gripper, frame, generator) for frame in range(LENGTH)]
    frames = np.arange(LENGTH)
    steps = {
        "observation": {"image": [_encoded(picture) for picture in pictures]},
        "action": np.cumsum(generator.normal(0, 0.1, (LENGTH, len(ACTIONS))), axis=0).astype(np.float32),
        "is_first": frames == 0,
        "is_last": frames == LENGTH - 1,
        "language_instruction": [f"fly over the leaves {number}"] * LENGTH,
    }
    return {"steps": steps}


def _leaves(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return [SIZE, SIZE, 3]: discs over discs, whose edges and sizes are spread as in photographs.

    The model of dead leaves (Lee, Mumford and Huang 2001, "Occlusion models for natural images"), slightly
    out of focus, in uneven light.
    """
    fine = 2 * SIZE
    canvas = Picture.new("RGB", (fine, fine))
    pen = ImageDraw.Draw(canvas)
    radii = 2 / np.sqrt(generator.uniform((3 / SIZE) ** 2, 1 / SMALLEST**2, DISCS))
    places = generator.uniform(0, fine, (DISCS, 2))
    colours = np.clip(generator.normal((120, 112, 104), (50, 46, 48), (DISCS, 3)), 0, 255).astype(int)
    for radius, (x, y), colour in zip(radii.tolist(), places.tolist(), colours.tolist(), strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour))
    sharp = canvas.filter(ImageFilter.GaussianBlur(1.6)).resize((SIZE, SIZE), Picture.Resampling.BOX)
    slope = generator.uniform(-0.3, 0.3, 2)
    across = np.linspace(-1, 1, SIZE)
    light = 1 + slope[0] * across[:, None] + slope[1] * across
    lit: NDArray[np.float64] = np.asarray(sharp, dtype=np.float64) * light[..., None]
    return lit


def _picture(
    scene: NDArray[Any], gripper: NDArray[Any], frame: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the scene with something that moves before it, and a camera's noise."""
    picture = scene + generator.normal(0, NOISE, scene.shape)
    edge = len(gripper)
    top, left = (40 + frame) % (SIZE - edge), (30 + 3 * frame) % (SIZE - edge)
    picture[top : top + edge, left : left + edge] = gripper
    pixels: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(picture, quality=QUALITY, colorspace="RGB", colorsubsampling="420")
    return data
