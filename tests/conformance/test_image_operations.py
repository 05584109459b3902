"""Decoding, resizing and cropping as TensorFlow does them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import TRUNCATED, to_pixels
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.framing import middle
from openvla_toolkit.core.images.resampling import crop_and_resize, lanczos3, resize_depth, resize_lanczos3
from tests.conformance import kit
from tests.conformance.originals import sha256

FOLDER = "rlds/expected"
CASES: list[dict[str, Any]] = kit.recorded(f"{FOLDER}/image_ops.json") or []
LEVEL = 1e-3
"""Of levels 0..255 before they are rounded."""
SIDE, SMALL = (224, 224), (50, 61)


def close(found: NDArray[np.uint8], told: NDArray[np.uint8]) -> None:
    """Check that levels differ by no more than one, in less than a hundredth of the places."""
    assert found.shape == told.shape
    off = np.abs(found.astype(int) - told)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01


def picture(case: dict[str, Any]) -> NDArray[np.uint8]:
    file = case.get("file", f"{case['key']}.png")
    return decode((kit.root() / FOLDER / file).read_bytes(), dct="fast")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_a_picture_is_decoded_and_resized(case: dict[str, Any]) -> None:
    pixels, size = picture(case), tuple(case.get("size", SIDE))
    if "decoded_sha256" in case:
        assert sha256(pixels) == case["decoded_sha256"]
    levels = lanczos3(pixels, size).transpose(2, 0, 1)
    places = tuple(np.array(case["float_sample_index"]).T)
    np.testing.assert_allclose(levels[places], case["float_sample_value"], rtol=0, atol=LEVEL)
    np.testing.assert_array_equal(
        resize_lanczos3(pixels, size), np.floor(np.clip(levels, 0, 255) + 0.5).astype(np.uint8)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_every_level_of_a_stored_picture(case: dict[str, Any]) -> None:
    stored = kit.arrays(f"{FOLDER}/image_ops.npz")
    pixels, key = picture(case), case["key"]
    made = {
        "decoded": pixels,
        "resized_224": resize_lanczos3(pixels, SIDE),
        "down_50x61": resize_lanczos3(pixels, SMALL),
        "resized": resize_lanczos3(pixels, tuple(case.get("size", SIDE))),
    }
    for name, found in made.items():
        if f"{key}/{name}" in stored:  # a trimmed kit leaves them out
            close(found, stored[f"{key}/{name}"])


def test_depth_is_resized() -> None:
    stored = kit.arrays(f"{FOLDER}/image_ops.npz")
    for name in stored:
        folder, _, size = name.partition("/resized_")
        if folder == "depth" and size:
            height, width = map(int, size.split("x"))
            found = resize_depth(stored["depth/src"], (height, width))
            np.testing.assert_allclose(found, stored[name], rtol=0, atol=LEVEL)


CROPPED = [
    case
    for case in kit.cases("eval_utils/cases.json", "center_crop")
    if (kit.root() / "eval_utils" / case["input"]).is_file()  # a trimmed kit leaves some out
]


@pytest.mark.parametrize("case", CROPPED, ids=lambda case: f"{case['input']}-{case['crop_scale']}")
def test_the_middle_is_cropped_when_acting(case: dict[str, Any]) -> None:
    pixels = kit.picture(f"eval_utils/{case['input']}")
    canvas = crop_and_resize(pixels, middle(case["crop_scale"]), tuple(case["float_shape"][:2]))
    places = tuple(np.array(case["float_sample_index"]).T)
    shares = canvas.transpose(2, 0, 1)[places] / 255
    np.testing.assert_allclose(shares, case["float_sample_value"], rtol=0, atol=1e-5)
    stored = kit.arrays("eval_utils/arrays.npz")
    if case["output_u8"] in stored:
        close(to_pixels(canvas, *TRUNCATED), stored[case["output_u8"]])
