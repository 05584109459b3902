"""Where a picture of an episode came from, for whoever reads it and finds it damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import DataDescription, Episode

__all__ = ["picture_errors"]


class _Described(Protocol):
    def describe(self) -> DataDescription: ...


@contextmanager
def picture_errors(source: _Described, episode: Episode, camera: str, frame: int) -> Iterator[None]:
    """Have a ``DataError`` of the block, which reads one picture, name its file, episode, frame and key."""
    try:
        yield
    except DataError as error:
        number = int(episode.images[camera][frame]["file"])
        raise DataError(
            error.reason,
            file=error.file or source.describe().files[number],
            episode=episode.name,
            frame=frame,
            key=f"observation.images.{camera}",
        ) from error
