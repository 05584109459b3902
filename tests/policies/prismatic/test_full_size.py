"""The code that makes the tiny model makes the published one, tensor for tensor, without its memory."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from transformers import AutoConfig, AutoModelForCausalLM

from openvla_toolkit.catalog.backbones import language_entry, vision_entry
from openvla_toolkit.catalog.tables import table
from openvla_toolkit.policies.prismatic.assembly import empty_parameters
from openvla_toolkit.policies.prismatic.model import PrismaticModel
from openvla_toolkit.policies.prismatic.projector import Projector
from openvla_toolkit.vision_backbones import TimmConfig

VISION, LANGUAGE = "dinosiglip-vit-so-224px", "llama2-7b-pure"
HIDDEN, INNER, LAYERS, ROWS = 4096, 11_008, 32, 32_064
"""Llama-2 7B with its vocabulary padded to a multiple of 64."""

Shapes: TypeAlias = dict[str, tuple[int, ...]]


def test_openvla_7b_has_the_tensors_of_its_tables() -> None:
    model = openvla_7b()
    assert all(parameter.is_meta for parameter in model.parameters())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    expected = published()
    assert shapes.keys() == expected.keys()
    assert shapes == expected
    assert sum(map(prod, shapes.values())) == 7_541_237_184


def openvla_7b() -> PrismaticModel:
    facts, language = vision_entry(VISION), language_entry(LANGUAGE)
    with empty_parameters():
        vision = TimmConfig(models=facts.towers, image_size=facts.image_size).build()
        rows = language.tokenizer.embedding_rows
        settings = AutoConfig.for_model(language.model_type, **language.hub, vocab_size=rows)
        speaker = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
        projector = Projector("fused-gelu-mlp", vision_dim=vision.embed_dim, text_dim=HIDDEN)
        model = PrismaticModel(vision, projector, speaker)
    assert (vision.num_patches, vision.embed_dim) == (256, 2176)
    return model


def published() -> Shapes:
    """Return name -> shape of every tensor of the published checkpoint, from the sizes of its parts alone."""
    facts = vision_entry(VISION)
    towers = [table("vision_backbones")["towers"][name] for name in facts.towers]
    shapes: Shapes = {}
    for name, sizes in zip(("featurizer", "fused_featurizer"), towers, strict=True):
        shapes |= within(f"vision_backbone.{name}", tower(sizes, patches=facts.num_patches))
    widths = (facts.embed_dim, 4 * facts.embed_dim, HIDDEN, HIDDEN)
    for number in (1, 2, 3):
        shapes |= within("projector", linear(f"fc{number}", widths[number - 1], widths[number]))
    return shapes | within("language_model", llama())


def tower(sizes: dict[str, Any], *, patches: int) -> Shapes:
    width, edge = sizes["width"], sizes["patch_size"]
    shapes: Shapes = {
        "pos_embed": (1, patches, width),
        "patch_embed.proj.weight": (width, 3, edge, edge),
        "patch_embed.proj.bias": (width,),
        **norm("norm", width),
    }
    if sizes["prefix_tokens"]:  # the class token and the registers; they have no positions here
        assert not sizes["positions_of_prefix"]
        shapes |= {"cls_token": (1, 1, width), "reg_token": (1, sizes["prefix_tokens"] - 1, width)}
    inner = int(width * sizes["mlp_ratio"])
    for number in range(sizes["depth"]):
        block = {
            **norm("norm1", width),
            **norm("norm2", width),
            **linear("attn.qkv", width, 3 * width),
            **linear("attn.proj", width, width),
            **mlp("mlp", width, inner),
        }
        if sizes["layer_scale"]:
            block |= {"ls1.scale_factor": (width,), "ls2.scale_factor": (width,)}
        shapes |= within(f"blocks.{number}", block)
    if sizes["attention_pool"]:
        pool = {
            "latent": (1, 1, width),
            **linear("q", width, width),
            **linear("kv", width, 2 * width),
            **linear("proj", width, width),
            **norm("norm", width),
            **mlp("mlp", width, inner),
        }
        shapes |= within("attn_pool", pool)
    return shapes


def llama() -> Shapes:
    shapes: Shapes = {
        "model.embed_tokens.weight": (ROWS, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (ROWS, HIDDEN),
    }
    for number in range(LAYERS):
        layer: Shapes = {f"self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        layer |= {f"mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        layer["mlp.down_proj.weight"] = (HIDDEN, INNER)
        layer |= {f"{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
        shapes |= within(f"model.layers.{number}", layer)
    return shapes


def within(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def mlp(name: str, width: int, inner: int) -> Shapes:
    return within(name, {**linear("fc1", width, inner), **linear("fc2", inner, width)})
