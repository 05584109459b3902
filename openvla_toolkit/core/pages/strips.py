"""Pictures side by side, small, as one JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["GAP", "column", "fitted", "row", "strip"]

GAP = 2
"""Pixels between pictures."""
GROUND = (24, 26, 31)


def fitted(pixels: NDArray[np.uint8], width: int) -> Image.Image:
    """Return a picture [height, width, 3] so many pixels wide."""
    picture = Image.fromarray(pixels)
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def row(pictures: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures side by side."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures)), GROUND)
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + GAP
    return canvas


def column(pictures: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures one below the other."""
    height = sum(picture.height for picture in pictures) + GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (max(picture.width for picture in pictures), height), GROUND)
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height + GAP
    return canvas


def strip(frames: Sequence[Image.Image]) -> bytes:
    """Return the JPEG of frames side by side."""
    buffer = io.BytesIO()
    row(frames).save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()
