"""A picture while it is worked on: float32 levels 0..255 in an order that loops like.

A *canvas* is an array [W, 3, H]: column after column, in each the red, green and blue levels from top to
bottom. So both passes of a resize and all colour operations run along contiguous memory.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.images.compiled import compiled

__all__ = ["ROUNDED", "TRUNCATED", "Canvas", "resampled", "to_pixels"]

Canvas: TypeAlias = "NDArray[np.float32]"

ROUNDED, TRUNCATED = (1.0, 0.5), (255.5 / 255, 0.0)
"""Gain and offset before levels are cut off to integers: to the nearest, or as
``tf.image.convert_image_dtype`` goes from numbers in [0, 1] to bytes, which multiplies them by 255.5."""

_ROWS = 16
"""Rows that are transposed at a time: one cache line of float32."""


@compiled
def resampled(
    pixels: NDArray[np.uint8],
    first_rows: NDArray[np.int64],
    row_weights: NDArray[np.float32],
    first_columns: NDArray[np.int64],
    column_weights: NDArray[np.float32],
) -> Canvas:
    """Return a canvas [W, 3, H] whose rows and columns are weighted sums of neighbouring ones of a picture.

    Row i sums the K rows from ``first_rows[i]`` with ``row_weights[i]`` [H, K], columns likewise; ``pixels``
    is uint8 [height, width, 3], contiguous.
    """
    width, rows, columns = pixels.shape[1], len(first_rows), len(first_columns)
    lines = pixels.reshape(pixels.shape[0], width * 3)
    turned = np.empty((width * 3, rows), np.float32)
    block = np.empty((_ROWS, width * 3), np.float32)
    for top in range(0, rows, _ROWS):
        count = min(_ROWS, rows - top)
        for row in range(count):
            total, first = block[row], first_rows[top + row]
            weight, line = row_weights[top + row, 0], lines[first]
            for place in range(width * 3):
                total[place] = weight * np.float32(line[place])
            for tap in range(1, row_weights.shape[1]):
                weight, line = row_weights[top + row, tap], lines[first + tap]
                for place in range(width * 3):
                    total[place] += weight * np.float32(line[place])
        for place in range(width * 3):
            target = turned[place, top : top + _ROWS]
            if count == _ROWS:  # a count that is known is unrolled
                for row in range(_ROWS):
                    target[row] = block[row, place]
            else:
                for row in range(count):
                    target[row] = block[row, place]
    sources = turned.reshape(width, 3 * rows)
    canvas = np.empty((columns, 3 * rows), np.float32)
    for column in range(columns):
        total, first = canvas[column], first_columns[column]
        weight, source = column_weights[column, 0], sources[first]
        for place in range(3 * rows):
            total[place] = weight * source[place]
        for tap in range(1, column_weights.shape[1]):
            weight, source = column_weights[column, tap], sources[first + tap]
            for place in range(3 * rows):
                total[place] += weight * source[place]
    return canvas.reshape(columns, 3, rows)


@compiled
def to_pixels(canvas: Canvas, gain: float, offset: float) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]: ``canvas * gain + offset``, cut off to integers and to 0..255."""
    width, _, height = canvas.shape
    factor, shift = np.float32(gain), np.float32(offset)
    pixels = np.empty((height, width, 3), np.uint8)
    bytes_ = np.empty((3, height), np.uint8)
    for column in range(width):
        for channel in range(3):
            levels, line = canvas[column, channel], bytes_[channel]
            for row in range(height):
                level = levels[row] * factor + shift
                line[row] = np.uint8(np.int32(min(max(level, np.float32(0)), np.float32(255))))
        for row in range(height):
            for channel in range(3):
                pixels[row, column, channel] = bytes_[channel, row]
    return pixels
