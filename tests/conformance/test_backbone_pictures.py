"""Pictures to pixels, as training runs of the original make them for each of their vision backbones."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.catalog.backbones import vision_entry, vision_settings
from openvla_toolkit.core.registry import load
from openvla_toolkit.interfaces.vision_backbone import VisionBackbone
from openvla_toolkit.policies.prismatic.images import Pixels
from tests.conformance import kit
from tests.conformance.originals import sha256

PLACE = "images/native_transforms.json"
CASES = kit.cases(PLACE)
BACKBONES = sorted((kit.recorded(PLACE) or {}).get("backbones", {}))


@cache
def backbone(name: str, strategy: Any) -> VisionBackbone:
    """Make a backbone in its real size, without memory for its weights."""
    with torch.device("meta"):
        config = load("vision_backbone", "timm")(**vision_settings(name, resize=strategy))
        return config.build()  # type: ignore[no-any-return, attr-defined]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_one_picture(number: int) -> None:
    case = CASES[number]
    keys = list(vision_entry(case["backbone"]).native_pixel_keys) or [""]
    picture = kit.picture(f"images/inputs/{case['image']}.png")
    recipe = backbone(case["backbone"], case["strategy"]).image_recipe()
    values = Pixels(recipe)(picture, camera="primary").reshape(len(keys), 3, recipe.size, recipe.size)[
        keys.index(case["key"])
    ]
    assert list(values.shape) == case["shape"]
    places = tuple(np.array(case["sample_index"]).T)
    np.testing.assert_allclose(values[places], case["sample_value"], rtol=0, atol=1e-6)
    assert values.mean() == pytest.approx(case["mean"], abs=1e-4)
    assert sha256(values) == case["sha256_float32"]


@pytest.mark.parametrize("name", BACKBONES)
def test_size_and_patches(name: str) -> None:
    stated = kit.recorded(PLACE)["backbones"][name]
    made = backbone(*name.split("/"))
    recipe = made.image_recipe()
    assert [3, recipe.size, recipe.size] == stated["default_image_resolution"]
    assert made.num_patches == stated["num_patches"]
    if stated["data_cfg"]:  # the original has none for fused backbones
        assert [list(recipe.means[0]), list(recipe.stds[0])] == [
            stated["data_cfg"][key] for key in ("mean", "std")
        ]
        assert recipe.interpolation == stated["data_cfg"]["interpolation"]
