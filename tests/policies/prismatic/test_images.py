"""Pixels agree bit for bit with what the original's image processors were recorded to give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.errors import ContractMismatch, UserError
from openvla_toolkit.policies.prismatic.images import Pixels, picture_array

RECORDED = Path(__file__).parents[2] / "golden" / "images"
CASES = json.loads((RECORDED / "cases.json").read_text())["cases"]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_pixels_are_as_recorded(number: int) -> None:
    case: dict[str, Any] = CASES[number]
    with Image.open(RECORDED / "inputs" / f"{case['image']}.png") as picture:
        pixels = Pixels(ImageRecipe(**case["recipe"]))(np.asarray(picture.convert("RGB")), camera="primary")
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256_float32"], case


def test_every_strategy_and_a_fused_one_are_recorded() -> None:
    found = {(case["recipe"]["strategy"], len(case["recipe"]["means"])) for case in CASES}
    assert found >= {("resize-naive", 1), ("resize-naive", 2), ("resize-crop", 2), ("letterbox", 1)}


def test_a_fused_letterbox_pads_each_tower_with_its_own_mean() -> None:
    means, stds = ((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)), ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    recipe = ImageRecipe(strategy="letterbox", size=8, means=means, stds=stds)
    pixels = Pixels(recipe)(np.zeros((4, 8, 3), dtype=np.uint8), camera="primary")
    assert pixels[0, 0, 0] == pytest.approx(51 / 255 - 0.2)
    assert pixels[3, 0, 0] == pytest.approx(204 / 255 - 0.8)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused_with_the_camera_s_name(picture: Any) -> None:
    recipe = ImageRecipe(size=8, means=((0.5,) * 3,), stds=((0.5,) * 3,))
    with pytest.raises(ContractMismatch, match=r"camera 'wrist' is .*uint8 \[height, width, 3\]"):
        Pixels(recipe)(picture, camera="wrist")


def test_a_recipe_may_say_what_a_letterbox_pads_with() -> None:
    means, stds = ((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)), ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    recipe = ImageRecipe(strategy="letterbox", size=8, means=means, stds=stds, fills=((9, 9, 9),) * 2)
    pixels = Pixels(recipe)(np.zeros((4, 8, 3), dtype=np.uint8), camera="primary")
    assert pixels[0, 0, 0] == pytest.approx(9 / 255 - 0.2)
    assert pixels[3, 0, 0] == pytest.approx(9 / 255 - 0.8)


@pytest.mark.parametrize("strategy", ["resize-crop", "letterbox"])
def test_a_longer_edge_than_the_crop_cuts_the_border_off(strategy: str) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[0] = picture[-1] = picture[:, 0] = picture[:, -1] = 255
    recipe = ImageRecipe(strategy=strategy, size=8, means=((0.0,) * 3,), stds=((1.0,) * 3,), edges=(16,))
    whole = Pixels(recipe.model_copy(update={"edges": None}))(picture, camera="primary")
    inner = Pixels(recipe)(picture, camera="primary")
    assert whole[0, 0, 0] == 1
    assert abs(inner[0, 0, 0]) < 0.1


@pytest.mark.parametrize("wrong", ["photo.png", None, 3])
def test_what_is_neither_image_nor_array_is_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=f"{type(wrong).__name__} was given"):
        picture_array(wrong)


def test_pillow_images_of_any_mode_become_rgb() -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        assert picture_array(Image.new(mode, (5, 4))).shape == (4, 5, 3)
