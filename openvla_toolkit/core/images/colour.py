"""Brightness, contrast, saturation and hue with the meaning they have in ``tf.image``, on a canvas.

Shape legend: a canvas is [W, 3, H] float32, levels 0..255 (``core.images.canvas``). What is said to change a
canvas changes it in place, and keeps its levels in 0..255 (but for rounding errors).

Saturation and hue are those of HSV, but no hue is ever computed. With the largest level V, the smallest N and
the chroma C = V - N, scaling the saturation moves all levels from V by one factor; and C times the distance
between a pixel's hue and pure red, in sixths of the circle, is V - 2N + G + B - R, on green's side where
G > B. So there are no cases to tell apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import Canvas
from openvla_toolkit.core.images.compiled import compiled

__all__ = ["brighten", "contrast", "recoloured", "saturate", "turn_hue"]

_BLACK, _HALF, _ONE, _WHITE = np.float32(0), np.float32(0.5), np.float32(1), np.float32(255)
_TINY = np.float32(1e-20)


@compiled
def brighten(canvas: Canvas, delta: float) -> None:
    """Add ``delta``, a share of white (``tf.image.adjust_brightness``)."""
    shift = np.float32(delta) * _WHITE
    for column in range(canvas.shape[0]):
        for channel in range(3):
            levels = canvas[column, channel]
            for row in range(canvas.shape[2]):
                levels[row] = _between(levels[row] + shift, _BLACK, _WHITE)


@compiled
def contrast(canvas: Canvas, factor: float) -> None:
    """Move every channel from its mean by a factor (``tf.image.adjust_contrast``)."""
    scale = np.float32(factor)
    still = (_ONE - scale) * _means(canvas, _BLACK, _WHITE)
    for column in range(canvas.shape[0]):
        for channel in range(3):
            levels, shift = canvas[column, channel], still[channel]
            for row in range(canvas.shape[2]):
                levels[row] = _between(levels[row] * scale + shift, _BLACK, _WHITE)


@compiled
def saturate(canvas: Canvas, factor: float) -> None:
    """Scale the saturation, to 1 at most (``tf.image.adjust_saturation``)."""
    scale = np.float32(factor)
    for column in range(canvas.shape[0]):
        reds, greens, blues = canvas[column].copy()
        for row in range(canvas.shape[2]):
            red, green, blue = _saturated(reds[row], greens[row], blues[row], scale)
            canvas[column, 0, row], canvas[column, 1, row], canvas[column, 2, row] = red, green, blue


@compiled
def turn_hue(canvas: Canvas, delta: float) -> None:
    """Turn the hue by a share of the circle, -0.5..0.5 (``tf.image.adjust_hue``)."""
    sixths = np.float32(6 * delta)
    for column in range(canvas.shape[0]):
        reds, greens, blues = canvas[column].copy()
        for row in range(canvas.shape[2]):
            red, green, blue = _turned(reds[row], greens[row], blues[row], sixths)
            canvas[column, 0, row], canvas[column, 1, row], canvas[column, 2, row] = red, green, blue


@compiled
def recoloured(
    canvas: Canvas, brightness: float, factor: float, saturation: float, hue: float
) -> NDArray[np.uint8]:
    """Return pixels uint8 [H, W, 3], rounded, after all four operations in this order, in two passes.

    Brightness and contrast are one linear map, cut off where either of them would have cut off.
    """
    width, _, height = canvas.shape
    delta, scale = np.float32(brightness) * _WHITE, np.float32(factor)
    amount, sixths = np.float32(saturation), np.float32(6 * hue)
    still = (_ONE - scale) * (_means(canvas, -delta, _WHITE - delta) + delta)
    shift_red, shift_green, shift_blue = (
        still[0] + scale * delta,
        still[1] + scale * delta,
        still[2] + scale * delta,
    )
    low, high = np.maximum(still, _BLACK), np.minimum(still + scale * _WHITE, _WHITE)
    pixels, line = np.empty((height, width, 3), np.uint8), np.empty((3, height), np.uint8)
    for column in range(width):
        reds, greens, blues = canvas[column, 0], canvas[column, 1], canvas[column, 2]
        for row in range(height):
            red = _between(reds[row] * scale + shift_red, low[0], high[0])
            green = _between(greens[row] * scale + shift_green, low[1], high[1])
            blue = _between(blues[row] * scale + shift_blue, low[2], high[2])
            red, green, blue = _saturated(red, green, blue, amount)
            red, green, blue = _turned(red, green, blue, sixths)
            line[0, row] = np.uint8(np.int32(red + _HALF))
            line[1, row] = np.uint8(np.int32(green + _HALF))
            line[2, row] = np.uint8(np.int32(blue + _HALF))
        for row in range(height):
            for channel in range(3):
                pixels[row, column, channel] = line[channel, row]
    return pixels


@compiled
def _means(canvas: Canvas, low: float, high: float) -> NDArray[np.float32]:
    """Return the mean of every channel, [3], of levels cut off to a range."""
    width, _, height = canvas.shape
    sums = np.zeros((3, height), np.float32)
    for column in range(width):
        for channel in range(3):
            levels, total = canvas[column, channel], sums[channel]
            for row in range(height):
                total[row] += _between(levels[row], low, high)
    means = np.empty(3, np.float32)
    for channel in range(3):
        means[channel] = sums[channel].sum() / (width * height)
    return means


@compiled
def _between(level: float, low: float, high: float) -> float:
    return min(max(level, low), high)


@compiled
def _saturated(red: float, green: float, blue: float, scale: float) -> tuple[float, float, float]:
    top, low = max(max(red, green), blue), min(min(red, green), blue)
    kept = min(top / max(top - low, _TINY), scale)
    return top - (top - red) * kept, top - (top - green) * kept, top - (top - blue) * kept


@compiled
def _turned(red: float, green: float, blue: float, sixths: float) -> tuple[float, float, float]:
    top, low = max(max(red, green), blue), min(min(red, green), blue)
    chroma = top - low
    turn, whole = chroma * sixths, chroma + red + green + blue - low
    return (
        low + _strength(whole - red - red, green - blue, turn, chroma),
        low + _strength(whole - green - green, blue - red, turn, chroma),
        low + _strength(whole - blue - blue, red - green, turn, chroma),
    )


@compiled
def _strength(distance: float, side: float, turn: float, chroma: float) -> float:
    """Return how far a channel is above the lowest, the hue being ``distance`` from it before the turn."""
    turned = abs((distance if side >= 0 else -distance) + turn)
    nearest = min(turned, np.float32(6) * chroma - turned)
    return _between(np.float32(2) * chroma - nearest, _BLACK, chroma)
