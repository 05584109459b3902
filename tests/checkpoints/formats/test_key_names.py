"""Names of tensors map one to one between Hugging Face folders and training runs."""

from __future__ import annotations

import pytest

from openvla_toolkit.catalog.backbones import vision_entry
from openvla_toolkit.checkpoints.formats.key_names import computed, from_native, to_native
from openvla_toolkit.core.errors import CheckpointError

FUSED = vision_entry("dinosiglip-vit-so-224px").native_prefixes
PAIRS = [
    (
        "language_model.model.layers.0.mlp.up_proj.weight",
        "llm_backbone",
        "llm.model.layers.0.mlp.up_proj.weight",
    ),
    ("language_model.lm_head.weight", "llm_backbone", "llm.lm_head.weight"),
    ("projector.fc1.weight", "projector", "projector.0.weight"),
    ("projector.fc3.bias", "projector", "projector.4.bias"),
    ("vision_backbone.featurizer.cls_token", "vision_backbone", "dino_featurizer.cls_token"),
    (
        "vision_backbone.featurizer.blocks.3.ls1.scale_factor",
        "vision_backbone",
        "dino_featurizer.blocks.3.ls1.gamma",
    ),
    (
        "vision_backbone.fused_featurizer.attn_pool.latent",
        "vision_backbone",
        "siglip_featurizer.attn_pool.latent",
    ),
]


@pytest.mark.parametrize(("name", "module", "key"), PAIRS)
def test_every_name_has_its_place_in_a_run_and_back(name: str, module: str, key: str) -> None:
    assert to_native(name, towers=FUSED, layers=3) == (module, key)
    assert from_native(module, key) == name


def test_a_single_layer_has_no_number() -> None:
    assert to_native("projector.fc1.bias", towers=("featurizer",), layers=1) == (
        "projector",
        "projector.bias",
    )
    assert from_native("projector", "projector.bias") == "projector.fc1.bias"


def test_a_single_tower_and_clip_have_their_names() -> None:
    name = "vision_backbone.featurizer.pos_embed"
    assert to_native(name, towers=("featurizer",), layers=2) == ("vision_backbone", "featurizer.pos_embed")
    assert from_native("vision_backbone", "featurizer.pos_embed") == name
    fused = "vision_backbone.fused_featurizer.pos_embed"
    assert from_native("vision_backbone", "clip_featurizer.pos_embed") == fused


@pytest.mark.parametrize(
    ("module", "key"),
    [
        ("projector", "projector.x"),
        ("vision_backbone", "tower.pos_embed"),
        ("llm_backbone", "lm_head.weight"),
    ],
)
def test_a_name_that_no_run_has_is_an_error(module: str, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"'{key}' in '{module}'"):
        from_native(module, key)


def test_a_tensor_that_no_run_can_hold_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="'action_queries' is no tensor"):
        to_native("action_queries", towers=("featurizer",), layers=2)


def test_frequencies_of_old_checkpoints_are_not_read() -> None:
    assert computed("language_model.model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not computed("language_model.lm_head.weight")
