"""Resizing and cropping as TensorFlow does it: every new row and column is a weighted sum of old ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import ROUNDED, Canvas, resampled, to_pixels

__all__ = ["WHOLE", "Box", "crop_and_resize", "lanczos3", "resize_depth", "resize_lanczos3", "smooth"]

_Taps: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float32]]"
"""For n new places: the first old place each is made of, [n], and the weights of it and the next, [n, K]."""

Box: TypeAlias = "tuple[float, float, float, float]"
"""Top, left, bottom and right as shares of the height and width."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_Kernel: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.float64]]"


def resize_lanczos3(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture resized to (height, width), as ``tf.image.resize(..., "lanczos3", antialias=True)``.

    Levels are rounded and clipped to bytes: what dlimp's ``resize_image`` does.
    """
    return pixels if pixels.shape[:2] == size else to_pixels(lanczos3(pixels, size), *ROUNDED)


def lanczos3(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Canvas:
    """Return a canvas of (height, width), before levels are rounded and clipped."""
    rows, columns = (_lanczos_taps(old, new) for old, new in zip(pixels.shape[:2], size, strict=True))
    return resampled(_plain(pixels), *rows, *columns)


def resize_depth(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a depth map [height, width] resized as ``tf.image.resize(..., "bilinear", antialias=True)``."""
    rows, columns = (
        _matrix(_shrunk(old, _edges(old, new), _triangle, 1), old)
        for old, new in zip(depth.shape, size, strict=True)
    )
    resized: NDArray[np.float32] = (rows @ depth @ columns.T).astype(np.float32)
    return resized


def crop_and_resize(pixels: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> Canvas:
    """Return the part of a picture in a box as a canvas of (height, width): ``tf.image.crop_and_resize``.

    It interpolates bilinearly; the centres of the outermost pixels lie on the edges of the box.
    """
    (height, width), (top, left, bottom, right) = pixels.shape[:2], box
    rows = _between_corners(height, size[0], top, bottom)
    columns = _between_corners(width, size[1], left, right)
    return resampled(_plain(pixels), *rows, *columns)


def smooth(pixels: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> Canvas:
    """Return the part of a picture in a box as a canvas of (height, width), in one antialiased step.

    The new pixels are centred where a resize to ``size`` and a ``crop_and_resize`` after it look; the kernel
    is a triangle as wide as two old pixels or two new ones, whichever is more. Among the common kernels it
    comes closest to these two steps, of which the second blurs what the first keeps sharp.
    """
    (height, width), (top, left, bottom, right) = pixels.shape[:2], box
    rows = _smooth_taps(height, size[0], top, bottom)
    columns = _smooth_taps(width, size[1], left, right)
    return resampled(_plain(pixels), *rows, *columns)


def _shrunk(old: int, centres: NDArray[np.float64], kernel: _Kernel, radius: float) -> _Taps:
    """Return the taps of evenly spaced centres among ``old`` pixels, whose edges are at 0, 1, 2, ...

    Where the centres are more than a pixel apart the kernel is stretched by as much (antialiasing). Weights
    beyond the edge are left out and the others scaled to a sum of 1.
    """
    stretch = max(1.0, (centres[-1] - centres[0]) / (len(centres) - 1)) if len(centres) > 1 else float(old)
    reach = radius * stretch
    count = min(int(np.floor(2 * reach)) + 1, old)
    first = np.clip(np.ceil(centres - reach - 0.5).astype(np.int64), 0, old - count)
    weights = kernel((first[:, None] + np.arange(count) + 0.5 - centres[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, weights.astype(np.float32)


def _between_corners(old: int, new: int, start: float, stop: float) -> _Taps:
    """Return the taps of ``new`` places from ``start`` to ``stop``, shares of the way between the corners."""
    steps = np.linspace(start, stop, new) if new > 1 else np.array([(start + stop) / 2])
    places = steps * (old - 1)
    first = np.clip(np.floor(places).astype(np.int64), 0, max(old - 2, 0))
    share = places - first
    weights = np.stack([1 - share, share], axis=1)[:, : min(old, 2)]
    return first, weights.astype(np.float32)


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bilinear kernel."""
    weights: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(distance))
    return weights


def _windowed_sinc(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sinc within a wider sinc that ends at its third zero."""
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


@lru_cache(maxsize=256)
def _lanczos_taps(old: int, new: int) -> _Taps:
    return _shrunk(old, _edges(old, new), _windowed_sinc, 3)


@lru_cache(maxsize=256)  # a square picture needs the same ones twice, acting the same ones always
def _smooth_taps(old: int, new: int, start: float, stop: float) -> _Taps:
    return _shrunk(old, _within(old, new, start, stop), _triangle, 1)


def _edges(old: int, new: int) -> NDArray[np.float64]:
    """Return the centres of ``new`` pixels whose outer edges are those of ``old`` ones."""
    return (np.arange(new, dtype=np.float64) + 0.5) * (old / new)


def _within(old: int, new: int, start: float, stop: float) -> NDArray[np.float64]:
    """Return the centres, among ``old`` pixels, of a crop from ``new`` pixels made of them."""
    return (np.linspace(start, stop, new) * (new - 1) + 0.5) * (old / new)


def _matrix(taps: _Taps, old: int) -> NDArray[np.float64]:
    first, weights = taps
    matrix = np.zeros((len(first), old))
    np.put_along_axis(matrix, first[:, None] + np.arange(weights.shape[1]), weights, axis=1)
    return matrix


def _plain(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the same pixels in the one form that the loops are compiled for."""
    return np.require(pixels, requirements=["C", "W"])
