"""How large pictures are, from the headers of some of them: nothing is decoded but videos."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import EncodedImage, Episode
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Pictures", "header", "pictures_of"]

LOOKED_AT = 24
"""Pictures per camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What was found of one camera."""

    camera: str
    looked_at: int
    sizes: Mapping[tuple[int, int], int]
    """(height, width) -> pictures."""
    formats: Mapping[str, int]
    damaged: Mapping[str, str]
    """Episode and frame -> what is wrong with its picture."""


def pictures_of(dataset: Dataset[Episode], index: EpisodeIndex) -> list[Pictures]:
    """Look at the headers of pictures that lie evenly over the data set."""
    frames = np.unique(np.linspace(0, index.frames - 1, LOOKED_AT).astype(np.int64)).tolist()
    return [_looked_at(dataset, index, camera, frames) for camera in index.images]


def header(encoded: EncodedImage) -> tuple[str, int, int]:
    """Return format, height and width.

    Raises:
        DataError: the bytes are no image.
    """
    if isinstance(encoded, np.ndarray):
        return "pixels", encoded.shape[0], encoded.shape[1]
    try:
        if encoded[:2] == b"\xff\xd8":
            height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
            return "jpeg", height, width
        with Image.open(io.BytesIO(encoded)) as picture:
            return (picture.format or "?").lower(), picture.height, picture.width
    except (ValueError, OSError, UnidentifiedImageError) as error:
        reason = f"{len(encoded)} bytes are no picture." if encoded else "there is no picture."
        raise DataError(reason) from error


def _looked_at(dataset: Dataset[Episode], index: EpisodeIndex, camera: str, frames: list[int]) -> Pictures:
    sizes: Counter[tuple[int, int]] = Counter()
    formats: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    for frame in frames:
        try:
            kind, height, width = header(dataset.image(index.images[camera][frame]))
        except DataError as error:
            episode = index.episode_of(frame)
            place = f"{index.names[episode]}, frame {frame - int(index.starts[episode])}"
            damaged[place] = error.reason
            continue
        sizes[height, width] += 1
        formats[kind] += 1
    return Pictures(
        camera=camera, looked_at=len(frames), sizes=dict(sizes), formats=dict(formats), damaged=damaged
    )
