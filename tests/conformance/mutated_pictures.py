"""Operations on other pictures, with what Pillow and plain Python (``tests.core.images``) make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.core.images import plain

RAW = ((23, 37), (40, 19))
"""A picture's height and width, and what it is resized to."""
SHAPE, STEP = (26, 31), 5
OPERATIONS = {
    "brightness_delta": (plain.brightness, 0.11),
    "contrast_factor": (plain.contrast, 1.13),
    "saturation_factor": (plain.saturation, 0.87),
    "hue_delta": (plain.hue, -0.031),
}
BOX = (0.02, 0.03, 0.93, 0.91)


def mutate_pictures(target: Path) -> None:
    """Write one picture to resize, and one to change in colour, with what comes of them."""
    expected = target / "rlds" / "expected"
    (expected / "raw").mkdir(parents=True)
    _resized(expected)
    _changed(expected)


def _noise(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def _resized(folder: Path) -> None:
    picture, size = _noise(8, RAW[0]), RAW[1]
    Image.fromarray(picture).save(folder / "raw" / "mine.png")
    levels = plain.lanczos(picture, size)
    places = [[1, 2, 0], [39, 18, 2], [20, 9, 1]]
    case = {
        "key": "raw/mine",
        "size": list(size),
        "float_sample_index": places,
        "float_sample_value": [float(levels[tuple(place)]) for place in places],
    }
    depth = np.repeat(np.arange(6, dtype=np.float32)[None], 4, axis=0)
    halves = (depth[:, ::2] + depth[:, 1::2]) / 2  # but for the ends, a widened triangle keeps a slope
    halves[:, 0], halves[:, -1] = (3 * 0 + 3 * 1 + 1 * 2) / 7, (3 * 5 + 3 * 4 + 1 * 3) / 7
    (folder / "image_ops.json").write_text(json.dumps([case]))
    rounded = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    np.savez(
        folder / "image_ops.npz",
        **{"raw/mine/resized": rounded, "depth/src": depth, "depth/resized_4x3": halves},
    )


def _changed(folder: Path) -> None:
    picture = _noise(9, SHAPE)
    numbers, arrays = picture / 255, {"src9": picture}
    made: Mapping[str, tuple[plain.Numbers, Any]] = {
        **{name: (operation(numbers, value), value) for name, (operation, value) in OPERATIONS.items()},
        "crop_and_resize_box_y0x0y1x1": (plain.crop(numbers, BOX, SHAPE), BOX),
    }
    operations = []
    for name, (result, value) in made.items():
        key = f"9/{name}/mine"
        operations.append({"key": key, "src": "src9", "op": name, "value": value})
        arrays[key] = result[::STEP, ::STEP].astype(np.float32)
        arrays[f"{key}/u8_after_clip"] = plain.as_bytes(result)
    edge, start = 0.8, 0.15
    result = plain.crop(numbers, (start, start, start + edge, start + edge), SHAPE)
    for operation, value in OPERATIONS.values():
        result = operation(result, value)
    arrays["seeded/mine"] = plain.as_bytes(result)
    drawn = {"random_resized_crop": {"size": edge, "y0": start, "x0": start}}
    for name, (_, value) in OPERATIONS.items():
        kind, _, what = name.partition("_")
        drawn[f"random_{kind}"] = {what: value}
    chain = {"key": "seeded/mine", "src": "src9", "parameters": drawn}
    (folder / "augment_ops.json").write_text(json.dumps({"ops": operations, "seeded": [chain]}))
    np.savez(folder / "augment_ops.npz", **arrays)
