"""From the bytes of a camera's picture to the frame that a sample holds."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import FrameRecipe, ImageRecipe
from openvla_toolkit.core.data_sections import Augment
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.types import EncodedImage

__all__ = ["FrameMaker", "as_recorded", "frame_maker", "unframed"]


class FrameMaker(Protocol):
    """Decodes a picture and makes it what the policy is trained on; can be pickled."""

    def __call__(self, encoded: EncodedImage, *, number: int, camera: str) -> NDArray[np.uint8]:
        """Return uint8 [height, width, 3]; the same ``number`` and ``camera`` always give the same.

        Raises:
            DataError: the bytes are no image.
        """
        ...


def as_recorded(encoded: EncodedImage, *, number: int, camera: str) -> NDArray[np.uint8]:
    """Return the decoded picture unchanged."""
    return decode(encoded)


def frame_maker(images: ImageRecipe, *, augment: Augment | None, seed: int) -> FrameMaker:
    """Return what makes the frames of a policy whose contract has these ``images``.

    Args:
        augment: the random changes; None shows pictures as the policy will see them when it acts.
        seed: of what is drawn.
    """
    if images.frame is None:
        return as_recorded
    maker = _Framed(images.frame, images.size, augment, seed)
    maker(np.zeros((2, 2, 3), dtype=np.uint8), number=0, camera="")  # compiled once, not in every worker
    return maker


def unframed(images: ImageRecipe) -> FrameMaker:
    """Return what gives pictures to a policy that acts, and frames them itself: decoded as for training."""
    return as_recorded if images.frame is None else partial(_decoded, images.frame)


def _decoded(recipe: FrameRecipe, encoded: EncodedImage, *, number: int, camera: str) -> NDArray[np.uint8]:
    return decode(encoded, dct="fast" if recipe.resample == "original" else "accurate")


class _Framed:
    def __init__(self, recipe: FrameRecipe, size: int, augment: Augment | None, seed: int) -> None:
        self._recipe, self._size, self._augment, self._seed = recipe, (size, size), augment, seed

    def __call__(self, encoded: EncodedImage, *, number: int, camera: str) -> NDArray[np.uint8]:
        # Numba takes a quarter of a second to import: only those wait who frame pictures.
        from openvla_toolkit.core.images.augmentation import draw
        from openvla_toolkit.core.images.framing import framed

        pixels = _decoded(self._recipe, encoded, number=number, camera=camera)
        changes = None
        if self._augment is not None:
            changes = draw(self._augment, seed=self._seed, number=number, camera=camera)
        return framed(pixels, self._recipe, size=self._size, changes=changes)
