"""Camera pictures to the pixels of a vision backbone, with NumPy and Pillow, bit for bit as the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.errors import ContractMismatch, UserError

__all__ = ["Pixels", "Steps", "checked", "picture_array", "steps_of"]

Colour = tuple[float, float, float]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is done to a picture for one tower, in this order."""

    fill: tuple[int, int, int] | None
    """Colour with which a letterbox makes it square; None for no letterbox."""
    resize: int | tuple[int, int]
    """The shorter edge, or height and width, pixels."""
    resampling: Image.Resampling
    crop: tuple[int, int]
    """Height and width of the centre that is kept."""
    mean: Colour
    std: Colour


def picture_array(picture: Any) -> NDArray[np.uint8]:
    """Return a Pillow image as RGB uint8 [height, width, 3]; arrays pass through.

    Raises:
        UserError: it is neither.
    """
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    if isinstance(picture, np.ndarray):
        return picture
    raise UserError(
        f"a picture must be a Pillow image or uint8 [height, width, 3]; {type(picture).__name__} was given."
    )


def steps_of(recipe: ImageRecipe) -> list[Steps]:
    """Return the steps of every tower; each pads with its own mean unless the recipe says otherwise."""
    size, towers = recipe.size, len(recipe.means)
    fills = recipe.fills or [tuple(int(value * 255) for value in mean) for mean in recipe.means]
    return [
        Steps(
            fill=fill if recipe.strategy == "letterbox" else None,  # type: ignore[arg-type]
            resize=(size, size) if recipe.strategy == "resize-naive" else edge,
            resampling=_FILTERS[recipe.interpolation],
            crop=(size, size),
            mean=mean,
            std=std,
        )
        for fill, edge, mean, std in zip(
            fills, recipe.edges or [size] * towers, recipe.means, recipe.stds, strict=True
        )
    ]


class Pixels:
    """Resize, crop and normalise pictures as an image recipe, or a list of steps per tower, says."""

    def __init__(self, recipe: ImageRecipe | Sequence[Steps]) -> None:
        self._towers = steps_of(recipe) if isinstance(recipe, ImageRecipe) else list(recipe)
        self._tables = [_table(tower.mean, tower.std) for tower in self._towers]

    def __call__(self, picture: NDArray[np.uint8], *, camera: str) -> NDArray[np.float32]:
        """Map a picture uint8 [height, width, 3] to pixels [3 x towers, height, width].

        Raises:
            ContractMismatch: it is no such array; names the camera.
        """
        picture = checked(picture, camera=camera)
        height, width = self._towers[0].crop
        blocks = np.empty((len(self._towers), 3, height, width), dtype=np.float32)
        made: dict[object, NDArray[np.uint8]] = {}  # towers often differ in mean and deviation only
        for block, tower, table in zip(blocks, self._towers, self._tables, strict=True):
            key = (tower.fill, tower.resize, tower.resampling, tower.crop)
            if key not in made:
                made[key] = _cut(picture, tower)
            for channel in range(3):
                np.take(table[channel], made[key][..., channel], out=block[channel])
        return blocks.reshape(-1, height, width)


def checked(picture: NDArray[np.uint8], *, camera: str) -> NDArray[np.uint8]:
    """Return the picture if it is uint8 [height, width, 3].

    Raises:
        ContractMismatch: it is not; names the camera.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise ContractMismatch(
            f"the picture of camera '{camera}' is {picture.dtype} {list(picture.shape)}; "
            "uint8 [height, width, 3] (RGB) is expected."
        )
    return picture


def _cut(picture: NDArray[np.uint8], steps: Steps) -> NDArray[np.uint8]:
    """Return uint8 [height, width, 3] of the crop."""
    if picture.shape[:2] == steps.crop and steps.resize in (steps.crop, steps.crop[0], steps.crop[1]):
        return picture
    image = Image.fromarray(picture)
    if steps.fill is not None:
        image = _padded(image, steps.fill)
    if isinstance(steps.resize, int):
        target = _short_edge(image.size, steps.resize)
    else:
        target = steps.resize[1], steps.resize[0]
    return np.asarray(_centre(image.resize(target, steps.resampling), steps.crop))


def _table(mean: Colour, std: Colour) -> NDArray[np.float32]:
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


def _centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
