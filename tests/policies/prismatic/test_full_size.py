"""The code that makes the tiny model makes the published one, tensor for tensor, without its memory."""

from __future__ import annotations

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from transformers import AutoConfig, AutoModelForCausalLM

from openvla_toolkit.policies.prismatic.assembly import empty_parameters
from openvla_toolkit.policies.prismatic.model import PrismaticModel
from openvla_toolkit.policies.prismatic.projector import Projector
from openvla_toolkit.vision_backbones import TimmConfig

TOWERS = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")


def test_openvla_7b_has_its_published_size() -> None:
    with empty_parameters():
        vision = TimmConfig(models=TOWERS, image_size=224).build()
        settings = AutoConfig.for_model("llama", vocab_size=32_064)
        language = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
        projector = Projector("fused-gelu-mlp", vision_dim=vision.embed_dim, text_dim=4096)
        model = PrismaticModel(vision, projector, language)
    assert (vision.num_patches, vision.embed_dim) == (256, 2176)
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_541_237_184
    assert all(parameter.is_meta for parameter in model.parameters())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["projector.fc1.weight"] == (8704, 2176)
    assert shapes["vision_backbone.featurizer.blocks.23.ls2.scale_factor"] == (1024,)
    assert shapes["vision_backbone.fused_featurizer.patch_embed.proj.weight"] == (1152, 3, 14, 14)
    assert shapes["language_model.model.layers.31.self_attn.q_proj.weight"] == (4096, 4096)
