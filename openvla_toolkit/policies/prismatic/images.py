"""Camera pictures to the pixels of a vision backbone, with NumPy and Pillow, bit for bit as the original."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.errors import ContractMismatch

__all__ = ["Pixels"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


class Pixels:
    """Resize, crop and normalise pictures as an image recipe says."""

    def __init__(self, recipe: ImageRecipe) -> None:
        self._recipe = recipe
        self._tables = [_table(mean, std) for mean, std in zip(recipe.means, recipe.stds, strict=True)]

    def __call__(self, picture: NDArray[np.uint8], *, camera: str) -> NDArray[np.float32]:
        """Map a picture uint8 [height, width, 3] to pixels [3 x towers, size, size].

        Raises:
            ContractMismatch: it is no such array; names the camera.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ContractMismatch(
                f"the picture of camera '{camera}' is {picture.dtype} {list(picture.shape)}; "
                "uint8 [height, width, 3] (RGB) is expected."
            )
        size = self._recipe.size
        blocks = np.empty((len(self._tables), 3, size, size), dtype=np.float32)
        square: NDArray[np.uint8] | None = None
        for block, table, mean in zip(blocks, self._tables, self._recipe.means, strict=True):
            if square is None or self._recipe.strategy == "letterbox":  # each tower pads with its own mean
                square = self._square(picture, mean)
            for channel in range(3):
                np.take(table[channel], square[..., channel], out=block[channel])
        return blocks.reshape(-1, size, size)

    def _square(self, picture: NDArray[np.uint8], mean: tuple[float, float, float]) -> NDArray[np.uint8]:
        """Return uint8 [size, size, 3]."""
        size, strategy = self._recipe.size, self._recipe.strategy
        if picture.shape[:2] == (size, size):
            return picture
        image = Image.fromarray(picture)
        resampling = _FILTERS[self._recipe.interpolation]
        if strategy == "resize-naive":
            return np.asarray(image.resize((size, size), resampling))
        if strategy == "letterbox":
            image = _padded(image, tuple(int(value * 255) for value in mean))
        return np.asarray(_centre(image.resize(_short_edge(image.size, size), resampling), size))


def _table(mean: tuple[float, float, float], std: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return [3, 256]: what each value of each channel becomes, in float32 as torchvision computes it."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    means, stds = np.array(mean, dtype=np.float32)[:, None], np.array(std, dtype=np.float32)[:, None]
    table: NDArray[np.float32] = (values - means) / stds
    return table


def _padded(image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    """Pad both sides of the shorter edge alike; an odd difference leaves it one pixel from square."""
    edge = max(image.size)
    left, top = (edge - image.width) // 2, (edge - image.height) // 2
    canvas = Image.new("RGB", (image.width + 2 * left, image.height + 2 * top), fill)
    canvas.paste(image, (left, top))
    return canvas


def _short_edge(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the size at which the shorter edge is ``target`` (torchvision truncates the longer one)."""
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _centre(image: Image.Image, size: int) -> Image.Image:
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))
