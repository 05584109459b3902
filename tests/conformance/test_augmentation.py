"""Colours and crops as ``tf.image`` makes them, one by one and as the original chains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.data_sections import Augment
from openvla_toolkit.core.images.canvas import TRUNCATED, Canvas, to_pixels
from openvla_toolkit.core.images.colour import brighten, contrast, saturate, turn_hue
from openvla_toolkit.core.images.framing import Change, framed
from openvla_toolkit.core.images.resampling import WHOLE, crop_and_resize
from tests.conformance import kit
from tests.conformance.test_image_operations import close

PLACE = "rlds/expected/augment_ops"
RECORDED: dict[str, Any] = kit.recorded(f"{PLACE}.json") or {}
COLOURS: dict[str, Callable[[Canvas, float], None]] = {
    "brightness_delta": brighten,
    "contrast_factor": contrast,
    "saturation_factor": saturate,
    "hue_delta": turn_hue,
}
STEP = 5
"""Every fifth row and column of the numbers is stored."""
TOLERANCE = 1e-5
"""Of numbers in [0, 1]."""


@pytest.mark.parametrize("case", RECORDED.get("ops", ()), ids=lambda case: case["key"])
def test_one_operation(case: dict[str, Any]) -> None:
    stored = kit.arrays(f"{PLACE}.npz")
    pixels, operation, value = stored[case["src"]], case["op"], case["value"]
    crops = operation.startswith("crop_and_resize")
    canvas = crop_and_resize(pixels, tuple(value) if crops else WHOLE, pixels.shape[:2])
    if not crops:
        COLOURS[operation](canvas, value)
    numbers = canvas.transpose(2, 0, 1)[::STEP, ::STEP] / 255
    told = np.clip(stored[case["key"]], 0, 1)  # ours are cut off at once
    np.testing.assert_allclose(numbers, told, rtol=0, atol=TOLERANCE)
    close(to_pixels(canvas, *TRUNCATED), stored[f"{case['key']}/u8_after_clip"])


@pytest.mark.parametrize("case", RECORDED.get("seeded", ()), ids=lambda case: case["key"])
def test_the_whole_chain(case: dict[str, Any]) -> None:
    stored = kit.arrays(f"{PLACE}.npz")
    changes = [_change(name, drawn) for name, drawn in case["parameters"].items()]
    pixels, told = stored[case["src"]], stored[case["key"]]
    size = (told.shape[0], told.shape[1])
    close(framed(pixels, FrameRecipe(), size=size, changes=changes), told)


def _change(name: Any, drawn: dict[str, float]) -> Change:
    if "size" in drawn:
        top, left, size = drawn["y0"], drawn["x0"], drawn["size"]
        return Change(name, box=(top, left, top + size, left + size))
    return Change(name, value=drawn["delta"] if "delta" in drawn else drawn["factor"])


def test_the_defaults_are_the_originals() -> None:
    for name, told in RECORDED.get("augment_kwargs", {}).items():
        ours = Augment()
        if name == "augment_order":
            used = [name for name in ours.order if getattr(ours, name) not in (None, False)]
            assert used == told
        elif name == "random_resized_crop":
            assert ours.random_resized_crop is not None
            assert ours.random_resized_crop.model_dump(mode="json") == told
        else:
            setting = getattr(ours, name)
            assert list(setting if isinstance(setting, tuple) else (setting,)) == told
