"""What is done to a camera's picture before the backbone sees it, in training and in acting alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import TRUNCATED, Canvas, to_pixels
from openvla_toolkit.core.images.colour import brighten, contrast, recoloured, saturate, turn_hue
from openvla_toolkit.core.images.resampling import WHOLE, Box, crop_and_resize, resize_lanczos3, smooth

if TYPE_CHECKING:
    from openvla_toolkit.core.contract import FrameRecipe
    from openvla_toolkit.core.data_sections import Operation

__all__ = ["Change", "framed", "middle"]


@dataclass(frozen=True, slots=True)
class Change:
    """One operation with the numbers that were drawn for it."""

    operation: Operation
    value: float = 0.0
    """Brightness: the share of white that is added; contrast, saturation: the factor; hue: the share of the
    circle it is turned by; rot90: the number of quarter turns, counter-clockwise."""
    box: Box = WHOLE
    """What a crop keeps."""


_COLOURS = {
    "random_brightness": brighten,
    "random_contrast": contrast,
    "random_saturation": saturate,
    "random_hue": turn_hue,
}
_NEUTRAL: dict[Operation, float] = {
    "random_brightness": 0.0,
    "random_contrast": 1.0,
    "random_saturation": 1.0,
    "random_hue": 0.0,
}
"""In the order in which the fused operations are made."""


def framed(
    pixels: NDArray[np.uint8],
    recipe: FrameRecipe,
    *,
    size: tuple[int, int],
    changes: Sequence[Change] | None = None,
) -> NDArray[np.uint8]:
    """Return the frame of ``size`` (height, width) of a picture uint8 [height, width, 3].

    Args:
        changes: how the picture is augmented; None for what a policy is shown when it acts: of pictures that
            were cropped at random in training, the middle.
    """
    if changes is None:
        changes = [] if recipe.crop is None else [Change("random_resized_crop", box=middle(recipe.crop))]
    frame = _one_by_one if recipe.resample == "original" else _fused
    return frame(pixels, changes, size)


def _one_by_one(
    pixels: NDArray[np.uint8], changes: Sequence[Change], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resize, then make one change after the other, as the original does; levels are bytes in between."""
    pixels = resize_lanczos3(pixels, size)
    if not changes:
        return pixels
    canvas = crop_and_resize(pixels, _box(changes), size)
    for change in changes:
        if change.operation in _COLOURS:
            _COLOURS[change.operation](canvas, change.value)
        else:
            canvas = _moved(canvas, change)
    return to_pixels(canvas, *TRUNCATED)


def _fused(pixels: NDArray[np.uint8], changes: Sequence[Change], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Crop and resize in one step, change the colours in another."""
    canvas = smooth(pixels, _box(changes), size)
    for change in changes:
        canvas = _moved(canvas, change)
    values = {change.operation: change.value for change in changes}
    return recoloured(canvas, *(values.get(operation, neutral) for operation, neutral in _NEUTRAL.items()))


def _box(changes: Sequence[Change]) -> Box:
    """Return what is kept by the crop; it is the first change, if there is one."""
    return changes[0].box if changes else WHOLE


def middle(crop: float) -> Box:
    """Return the box in the middle that keeps a share of the area."""
    edge = sqrt(crop)
    start = (1 - edge) / 2
    return start, start, start + edge, start + edge


def _moved(canvas: Canvas, change: Change) -> Canvas:
    """Return a canvas [W, 3, H] with its pixels in other places; as it is for any other change."""
    if change.operation == "random_flip_left_right":
        return np.ascontiguousarray(canvas[::-1])
    if change.operation == "random_flip_up_down":
        return np.ascontiguousarray(canvas[:, :, ::-1])
    if change.operation == "random_rot90":
        return np.ascontiguousarray(np.rot90(canvas, int(change.value), axes=(2, 0)))
    return canvas
