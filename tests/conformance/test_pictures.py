"""Pictures to pixels, as the original's Hugging Face image processor makes them from its stored settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from openvla_toolkit.policies.prismatic.hugging_face.processing import PrismaticImageProcessor
from tests.conformance import kit
from tests.conformance.originals import sha256

PLACE = "images/cases.json"
CASES = kit.cases(PLACE)
TOLERANCE = 1e-6


def processor(case: dict[str, Any]) -> PrismaticImageProcessor:
    settings = dict(kit.recorded(PLACE)["processors"][f"{case['config']}/{case['strategy']}"])
    settings.pop("image_processor_type")
    return PrismaticImageProcessor(**settings)


def pixels(case: dict[str, Any], names: list[str]) -> NDArray[np.float32]:
    images = [Image.open(kit.root() / "images" / "inputs" / f"{name}.png") for name in names]
    values: NDArray[np.float32] = processor(case)(images, return_tensors="np")["pixel_values"]
    return values


def as_bytes(values: NDArray[np.float32], settings: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """Undo the normalisation: per block of three channels uint8 [3, height, width]."""
    blocks = values.reshape(-1, 3, *values.shape[1:])
    found = []
    for block, entry in zip(blocks, settings["tvf_normalize_params"], strict=True):
        mean, std = (np.array(entry[key], dtype=np.float64)[:, None, None] for key in ("mean", "std"))
        found.append(np.rint((block * std + mean) * 255).astype(np.uint8))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_one_picture(case: dict[str, Any]) -> None:
    (values,) = pixels(case, [case["image"]])
    assert list(values.shape) == case["shape"]
    assert values.dtype == case["dtype"]
    places = tuple(np.array(case["sample_index"]).T)
    np.testing.assert_allclose(values[places], case["sample_value"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(
        [values.mean(), values.std()], [case["mean"], case["std"]], rtol=1e-4, atol=1e-4
    )
    assert sha256(values) == case["sha256_float32"]
    blocks = as_bytes(values, kit.recorded(PLACE)["processors"][f"{case['config']}/{case['strategy']}"])
    for block, digest, exact in zip(blocks, case["uint8_sha256"], case["requantised_exact"], strict=True):
        assert not exact or sha256(block) == digest


@pytest.mark.parametrize(
    "case", [case for case in CASES if "uint8_key" in case], ids=lambda case: case["name"]
)
def test_a_stored_picture(case: dict[str, Any]) -> None:
    (values,) = pixels(case, [case["image"]])
    blocks = as_bytes(values, kit.recorded(PLACE)["processors"][f"{case['config']}/{case['strategy']}"])
    stored = kit.arrays("images/outputs_uint8.npz")
    for block, name in zip(blocks, case["uint8_key"], strict=True):
        if name in stored:  # a trimmed kit leaves pictures out
            np.testing.assert_array_equal(block, stored[name])


@pytest.mark.parametrize(
    "case", kit.cases(PLACE, "batched"), ids=lambda case: f"{case['config']}/{case['strategy']}"
)
def test_a_list_of_pictures(case: dict[str, Any]) -> None:
    values = pixels(case, case["images"])
    assert list(values.shape) == case["shape"]
    assert sha256(values) == case["sha256_float32"]


@pytest.mark.parametrize("name", sorted((kit.recorded(PLACE) or {}).get("processors", {})))
def test_settings_are_written_as_they_were_read(name: str) -> None:
    stored = kit.recorded(PLACE)["processors"][name]
    written = processor({"config": name.split("/")[0], "strategy": name.split("/")[1]}).to_dict()
    assert {key: written.get(key) for key in stored} == stored
