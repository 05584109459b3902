"""What the operations on pictures mean, number by number, in numbers in [0, 1] and plain Python."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Numbers: TypeAlias = "NDArray[np.float64]"
"""[height, width, 3] in [0, 1]."""
Colour: TypeAlias = "tuple[float, float, float]"


def brightness(picture: Numbers, delta: float) -> Numbers:
    return np.clip(picture + delta, 0, 1)


def contrast(picture: Numbers, factor: float) -> Numbers:
    mean = picture.mean(axis=(0, 1))
    return np.clip(mean + (picture - mean) * factor, 0, 1)


def saturation(picture: Numbers, factor: float) -> Numbers:
    return _each(picture, lambda hue, amount, value: (hue, min(amount * factor, 1), value))


def hue(picture: Numbers, delta: float) -> Numbers:
    return _each(picture, lambda hue, amount, value: ((hue + delta) % 1, amount, value))


def crop(picture: Numbers, box: tuple[float, float, float, float], size: tuple[int, int]) -> Numbers:
    """Interpolate between the four nearest pixels; the corners of the box are centres of pixels."""
    height, width = picture.shape[:2]
    made = np.empty((*size, 3))
    for row, y in enumerate(np.linspace(box[0], box[2], size[0]) * (height - 1)):
        for column, x in enumerate(np.linspace(box[1], box[3], size[1]) * (width - 1)):
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            (a, b), (c, d) = picture[top : top + 2, left : left + 2]
            down, right = y - top, x - left
            made[row, column] = (a * (1 - right) + b * right) * (1 - down)
            made[row, column] += (c * (1 - right) + d * right) * down
    return made


def lanczos(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return levels as Pillow resizes numbers that are no bytes."""
    channels = [
        Image.fromarray(picture[..., channel].astype(np.float32)).resize(size[::-1], Image.Resampling.LANCZOS)
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def as_bytes(picture: Numbers) -> NDArray[np.uint8]:
    """Cut off to bytes as TensorFlow does."""
    return np.clip(picture * 255.5, 0, 255).astype(np.uint8)


def _each(picture: Numbers, change: Callable[[float, float, float], Colour]) -> Numbers:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in picture.reshape(-1, 3)]
    return np.array(pixels).reshape(picture.shape)
