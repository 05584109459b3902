"""From the names in a card to numbers, texts and pictures of one episode's trajectory.

Legend of shapes: T frames, N numbers of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, RecipeError, did_you_mean
from openvla_toolkit.datasets.lerobot.layout import Layout

__all__ = ["instruction_column", "instructions", "picture_feature", "source_column", "vector"]

SOURCES = {"state": "observation.state", "action": "action"}
"""What a part of ``modality.json`` is cut from, unless it says otherwise."""


def picture_feature(key: str, layout: Layout, *, camera: str) -> str:
    """Return the feature that holds a camera's pictures.

    Raises:
        RecipeError: there is no such feature, or it holds no pictures.
    """
    kind, _, name = key.partition(".")
    part = layout.modality.get("video", {}).get(name) if kind == "video" else None
    feature = key if part is None else str(part.get("original_key", f"observation.images.{name}"))
    if feature not in layout.cameras:
        known = layout.cameras
        raise RecipeError(
            f"there are no pictures '{feature}'.{did_you_mean(feature, known)} "
            f"There are: {', '.join(known)}.",
            path=f"cameras.{camera}",
        )
    return feature


def source_column(key: str, layout: Layout) -> tuple[str, slice]:
    """Return the column that a vector is cut from, and which of its numbers."""
    kind, _, name = key.partition(".")
    part = layout.modality.get(kind, {}).get(name) if kind in SOURCES else None
    if part is None:
        return key, slice(None)
    return str(part.get("original_key", SOURCES[kind])), slice(int(part["start"]), int(part["end"]))


def vector(
    trajectory: Mapping[str, Any], keys: list[str], layout: Layout, *, setting: str
) -> NDArray[np.float32]:
    """Return the joined numbers of several keys, [T, N] float32.

    Raises:
        RecipeError: there is no such column.
        DataError: a column holds no numbers, or one is not finite.
    """
    parts = []
    for position, key in enumerate(keys):
        column, cut = source_column(key, layout)
        if column not in trajectory:
            near = did_you_mean(column, trajectory)
            raise RecipeError(
                f"there is no '{column}'.{near} There are: {', '.join(sorted(trajectory))}.",
                path=f"{setting}.{position}",
            )
        values = np.asarray(trajectory[column])
        if values.dtype.kind not in "fiub":
            raise DataError(f"expected numbers, found {values.dtype}.", key=column)
        flat = values.reshape(len(values), -1).astype(np.float32)[:, cut]
        bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        if len(bad):
            reason = f"expected finite numbers, found {flat[bad[0]].tolist()}."
            raise DataError(reason, frame=int(bad[0]), key=column)
        parts.append(flat)
    return np.concatenate(parts, axis=1)


def instruction_column(key: str, layout: Layout) -> str:
    """Return the column that says what the robot was told."""
    name = key.removeprefix("annotation.")
    part = layout.modality.get("annotation", {}).get(name)
    if part is None:
        return key
    return str(part.get("original_key", f"annotation.{name}"))


def instructions(trajectory: Mapping[str, Any], key: str, layout: Layout) -> list[str]:
    """Return what the robot was told, [T] texts.

    Raises:
        RecipeError: there is no such column.
        DataError: a task has no text.
    """
    column = instruction_column(key, layout)
    if column not in trajectory:
        near = did_you_mean(column, trajectory)
        raise RecipeError(
            f"there is no '{column}'.{near} There are: {', '.join(sorted(trajectory))}.", path="instruction"
        )
    told = []
    for frame, value in enumerate(np.asarray(trajectory[column]).tolist()):
        value = value[0] if isinstance(value, list) else value
        text = value if isinstance(value, str) else layout.tasks.get(value)
        if text is None:
            raise DataError(
                f"task {value} is not in the list of {len(layout.tasks)} tasks.", frame=frame, key=column
            )
        told.append(text)
    return told
