"""Features of timm towers, single and fused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.vision_backbones import PrismaticVisionConfig, TimmConfig

SMALL: dict[str, Any] = {"embed_dim": 24, "depth": 3, "num_heads": 2}
DINO = "vit_large_patch14_reg4_dinov2.lvd142m"
SIGLIP = "vit_so400m_patch14_siglip_224"


def single(**settings: Any) -> TimmConfig:
    return TimmConfig(models=(SIGLIP,), image_size=28, options=SMALL, **settings)


def fused() -> TimmConfig:
    return TimmConfig(models=(DINO, SIGLIP), image_size=28, options={**SMALL, "embed_dim": [24, 36]})


def test_features_leave_the_second_to_last_block_without_norm_and_prefix_tokens() -> None:
    backbone = TimmConfig(models=(DINO,), image_size=28, options=SMALL).build().eval()
    tower = backbone.featurizer
    pixels = torch.randn(2, 3, 28, 28)
    tokens = tower.norm_pre(tower._pos_embed(tower.patch_embed(pixels)))
    for block in tower.blocks[:-1]:
        tokens = block(tokens)
    assert tokens.shape == (2, 5 + 4, 24)  # class token, four registers, patches
    torch.testing.assert_close(backbone(pixels), tokens[:, 5:])


def test_fused_features_stand_side_by_side_each_tower_with_its_own_channels() -> None:
    backbone = fused().build().eval()
    pixels = torch.randn(2, 6, 28, 28)
    features = backbone(pixels)
    assert features.shape == (2, backbone.num_patches, backbone.embed_dim) == (2, 4, 60)
    other = pixels.clone()
    other[:, 3:] += 1
    changed = (backbone(other) != features).any(dim=(0, 1))
    assert changed.tolist() == [False] * 24 + [True] * 36


def test_parameters_have_the_names_of_published_checkpoints() -> None:
    names = set(fused().build().state_dict())
    assert {"featurizer.blocks.0.ls1.scale_factor", "featurizer.reg_token", "featurizer.norm.weight"} <= names
    assert {"fused_featurizer.attn_pool.latent", "fused_featurizer.blocks.2.mlp.fc1.weight"} <= names
    assert not [name for name in names if "gamma" in name or name.startswith("fused_featurizer.blocks.0.ls")]


def test_layer_scale_still_scales() -> None:
    backbone = TimmConfig(models=(DINO,), image_size=28, options=SMALL).build().eval()
    pixels = torch.randn(1, 3, 28, 28)
    before = backbone(pixels)
    with torch.no_grad():
        backbone.featurizer.blocks[0].ls1.scale_factor.fill_(3.0)
    assert not torch.allclose(backbone(pixels), before)


def test_exactly_what_is_executed_takes_a_gradient() -> None:
    backbone = fused().build()
    backbone(torch.randn(1, 6, 28, 28)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    frozen = [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    assert any("blocks.2." in name for name in frozen)
    assert any("attn_pool" in name for name in frozen)


def test_the_image_recipe_is_timm_s_unless_it_is_given() -> None:
    recipe = fused().build().image_recipe()
    assert recipe.means == ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
    assert (recipe.size, recipe.strategy) == (28, "resize-naive")
    given = single(mean=((0.1, 0.2, 0.3),), std=((0.4, 0.5, 0.6),), resize="letterbox").build().image_recipe()
    assert (given.means, given.stds) == (((0.1, 0.2, 0.3),), ((0.4, 0.5, 0.6),))
    assert given.strategy == "letterbox"


def test_fresh_weights_have_the_spread_that_was_asked_for() -> None:
    tower = single(init_std=0.2, position_std=0.7).build().featurizer
    assert tower.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.2, rel=0.1)
    assert tower.patch_embed.proj.weight.std().item() == pytest.approx((3 * 14 * 14) ** -0.5, rel=0.1)
    assert tower.pos_embed.std().item() == pytest.approx(0.7, rel=0.3)
    assert not tower.blocks[0].mlp.fc1.bias.any()


def test_both_implementations_of_attention_agree() -> None:
    fast, plain = single().build().eval(), single(attention="eager").build().eval()
    plain.load_state_dict(fast.state_dict())
    pixels = torch.randn(2, 3, 28, 28)
    assert fast.featurizer.blocks[0].attn.fused_attn
    assert not plain.featurizer.blocks[0].attn.fused_attn
    torch.testing.assert_close(fast(pixels), plain(pixels), rtol=1e-4, atol=1e-5)


def test_shard_units_are_the_blocks_of_all_towers() -> None:
    assert len(fused().build().shard_units()) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": ("vit_tiny_patch16_225",)}, r"Did you mean 'vit_tiny_patch16_22"),
        ({"models": ("resnet18",)}, "resnet18"),
        ({"models": ("vit_tiny_patch16_224",), "options": {"wings": 2}}, "wings"),
        (
            {"models": ("vit_tiny_patch16_224", SIGLIP), "options": SMALL},
            "cannot be fused.* 9 and 16 patches",
        ),
        ({"models": ("vit_tiny_patch16_224",), "options": {"depth": 1}}, "at least two blocks"),
    ],
)
def test_what_cannot_be_made_is_a_user_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmConfig(image_size=56, **settings).build()


def test_one_value_per_model_is_needed() -> None:
    with pytest.raises(ValidationError, match="'mean' has 1 entries for 2 models"):
        TimmConfig(models=(DINO, SIGLIP), image_size=28, mean=((0.5, 0.5, 0.5),))
    with pytest.raises(ValidationError, match=r"'options\.depth' has 1 values for 2 models"):
        TimmConfig(models=(DINO, SIGLIP), image_size=28, options={"depth": [2]})


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deit3_small_patch16_224", 48),
        ("deit_tiny_distilled_patch16_224", 48),
        ("eva02_tiny_patch14_224", 42),
        ("beit_base_patch16_224", 48),
        ("vit_base_patch16_dinov3", 48),
        ("vit_small_patch14_dinov2", 42),
        ("vit_medium_patch16_gap_240", 48),
        ("flexivit_small", 48),
    ],
)
def test_any_vision_transformer_of_timm_serves(name: str, size: int) -> None:
    backbone = TimmConfig(models=(name,), image_size=size, options={"depth": 2}).build().eval()
    features = backbone(torch.randn(2, 3, size, size))
    assert features.shape == (2, 9, backbone.embed_dim)
    assert (features[0] - features[1]).abs().max() > 1e-3
    features.sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), key


@pytest.mark.parametrize("name", ["resnet18", "naflexvit_base_patch16_gap"])
def test_what_has_no_square_patches_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=name):
        TimmConfig(models=(name,), image_size=48).build()


def test_a_prismatic_backbone_by_id_is_a_timm_backbone() -> None:
    small = {"embed_dim": [24, 36], "depth": 3, "num_heads": 2}
    config = PrismaticVisionConfig(id="dinoclip-vit-l-336px", resize="letterbox", options=small)
    backbone = config.build()
    recipe = backbone.image_recipe()
    assert (backbone.embed_dim, backbone.num_patches, recipe.size) == (60, 576, 336)
    assert recipe.means == ((0.485, 0.456, 0.406), (0.48145466, 0.4578275, 0.40821073))
    # Each tower computes with the activation of its pretrained weights.
    activations = [type(tower.blocks[0].mlp.act).__name__ for tower in backbone.towers()]
    assert activations == ["GELU", "QuickGELU"]
    # A checkpoint keeps plain settings, which do not depend on the catalog.
    kept = PrismaticVisionConfig(**{**config.model_dump(), "pretrained": True}).architecture()
    assert isinstance(kept, TimmConfig)
    assert not kept.pretrained
    assert kept == config.architecture()
    assert PrismaticVisionConfig(id="clip-vit-b", pretrained=True).plain().pretrained
    crop = PrismaticVisionConfig(id="clip-vit-b", resize="resize-crop", options={"depth": 2}).build()
    assert crop.image_recipe().edges == (248,)


def test_an_unknown_id_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r"Did you mean 'dinosiglip-vit-so-224px'\?"):
        PrismaticVisionConfig(id="dinosiglip-vit-so-224")
