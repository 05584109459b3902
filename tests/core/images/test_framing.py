"""Frames: the two ways to make them, in training and in acting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.data_sections import Augment, Frames
from openvla_toolkit.core.images.augmentation import draw
from openvla_toolkit.core.images.framing import Change, framed, middle
from openvla_toolkit.core.images.resampling import resize_lanczos3
from tests.core.images import plain

SIZE = (24, 24)
WAYS: list[Literal["original", "fused"]] = ["original", "fused"]
MOVES: dict[Change, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    Change("random_flip_left_right"): np.fliplr,
    Change("random_flip_up_down"): np.flipud,
    Change("random_rot90", value=1.0): np.rot90,
    Change("random_rot90", value=3.0): lambda picture: np.rot90(picture, 3),
}


def smooth_picture(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Return colours that change slowly, so that every way to resize comes to the same."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(4 * x + y), np.cos(5 * y - x), np.sin(3 * x * y + 1)]
    return (np.stack(waves, axis=-1) * 90 + 128).astype(np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_acting_shows_the_middle(way: Literal["original", "fused"]) -> None:
    picture, recipe = smooth_picture(), FrameRecipe(resample=way, crop=0.25)
    seen = framed(picture, recipe, size=SIZE)
    changes = [Change("random_resized_crop", box=middle(0.25))]
    np.testing.assert_array_equal(framed(picture, recipe, size=SIZE, changes=changes), seen)
    height, width = picture.shape[:2]
    edge = int(height * (1 - 0.25**0.5) / 2) - 12, int(width * (1 - 0.25**0.5) / 2) - 12
    picture[: edge[0]] = picture[-edge[0] :] = picture[:, : edge[1]] = picture[:, -edge[1] :] = 0
    np.testing.assert_array_equal(framed(picture, recipe, size=SIZE), seen, err_msg="the border is seen")


@pytest.mark.parametrize("way", WAYS)
def test_without_a_crop_all_is_seen(way: Literal["original", "fused"]) -> None:
    picture = smooth_picture()
    found = framed(picture, FrameRecipe(resample=way), size=SIZE)
    off = np.abs(found.astype(int) - resize_lanczos3(picture, SIZE))
    assert off.max() <= (0 if way == "original" else 2)


@pytest.mark.parametrize("number", range(8))
def test_both_ways_make_much_the_same(number: int) -> None:
    picture = smooth_picture()
    changes = draw(Augment(), seed=0, number=number, camera="primary")
    one, other = (framed(picture, FrameRecipe(resample=way), size=SIZE, changes=changes) for way in WAYS)
    assert np.abs(one.astype(int) - other).max() <= 3


def test_the_original_makes_one_change_after_the_other() -> None:
    picture = smooth_picture()
    changes = draw(Augment(), seed=0, number=1, camera="primary")
    numbers = plain.crop(resize_lanczos3(picture, SIZE) / 255, changes[0].box, SIZE)
    meant = [plain.brightness, plain.contrast, plain.saturation, plain.hue]
    for operation, change in zip(meant, changes[1:], strict=True):
        numbers = operation(numbers, change.value)
    found = framed(picture, FrameRecipe(), size=SIZE, changes=changes)
    off = np.abs(found.astype(int) - plain.as_bytes(numbers))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", MOVES, ids=str)
def test_pixels_are_moved(way: Literal["original", "fused"], change: Change) -> None:
    picture, recipe = smooth_picture(), FrameRecipe(resample=way)
    wanted = MOVES[change](framed(picture, recipe, size=SIZE))
    np.testing.assert_array_equal(framed(picture, recipe, size=SIZE, changes=[change]), wanted)


@pytest.mark.parametrize("way", WAYS)
def test_the_settings_say_what_is_done_when_acting(way: Literal["original", "fused"]) -> None:
    assert Frames(resample=way).recipe() == FrameRecipe(resample=way, crop=0.9)
    assert Frames(resample=way, augment=None).recipe() == FrameRecipe(resample=way)
    plain_colours = Augment(random_resized_crop=None)
    assert Frames(resample=way, augment=plain_colours).recipe() == FrameRecipe(resample=way)


def test_fused_colours_have_one_order() -> None:
    order = Augment().order
    other = Augment(order=(*order[:4], *order[4:][::-1]))
    assert Frames(augment=other).augment == other
    with pytest.raises(ValueError, match="'fused' changes colours in the order random_brightness, "):
        Frames(resample="fused", augment=other)
    fewer = Augment(order=("random_resized_crop", "random_contrast", "random_hue"), random_brightness=None,
                    random_saturation=None)  # fmt: skip
    assert Frames(resample="fused", augment=fewer).augment == fewer
