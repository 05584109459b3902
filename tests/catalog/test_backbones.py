"""The tables of backbones: every id, its sizes, and what the two classes of the original do differently."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from transformers import AutoConfig, AutoModelForCausalLM

from openvla_toolkit.catalog.backbones import (
    language_entry,
    language_ids,
    language_settings,
    vision_entry,
    vision_ids,
    vision_settings,
)
from openvla_toolkit.catalog.sizes import language_parameters, vision_parameters
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.language_models import CausalLMConfig
from openvla_toolkit.vision_backbones import TimmConfig

DINOCLIP = "dinoclip-vit-l-336px"


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_originals_ids_are_there() -> None:
    assert (len(vision_ids()), len(language_ids())) == (13, 9)


@pytest.mark.parametrize("name", vision_ids())
def test_a_vision_backbone_has_the_sizes_of_the_table(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmConfig(**vision_settings(name, resize="resize-naive")).build()
    facts = vision_entry(name)
    assert (backbone.embed_dim, backbone.num_patches) == (facts.embed_dim, facts.num_patches)
    assert len(backbone.towers()) == len(facts.towers) == len(facts.native_prefixes)
    assert count(backbone) == vision_parameters(name)


@pytest.mark.parametrize("name", language_ids())
def test_a_language_model_has_the_sizes_of_the_table(name: str) -> None:
    settings, rows = language_settings(name), language_entry(name).tokenizer.embedding_rows
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(settings["model_type"], vocab_size=rows, **settings["settings"])
        )
    assert count(model) == language_parameters(name)
    blocks = {type(module).__name__ for module in model.modules()}
    assert language_entry(name).decoder_layer in blocks


@pytest.mark.parametrize("name", vision_ids())
def test_the_means_of_the_table_are_timm_s(name: str) -> None:
    from timm.models import get_pretrained_cfg

    facts = vision_entry(name)
    for tower, mean, std in zip(facts.towers, facts.means, facts.stds, strict=True):
        known = get_pretrained_cfg(tower)
        assert (known.mean, known.std) == (mean, std)
    assert facts.letterbox_fill == tuple(tuple(int(part * 255) for part in mean) for mean in facts.means)


@pytest.mark.parametrize("name", language_ids())
def test_the_tokenizer_s_numbers_belong_together(name: str) -> None:
    rules = language_entry(name).tokenizer
    assert rules.vocabulary_size <= rules.pad_id < rules.embedding_rows <= rules.pad_id + 64
    assert rules.embedding_rows % 64 == 0
    CausalLMConfig(**language_settings(name))


def test_the_port_rounds_otherwise_than_training_runs() -> None:
    native = language_settings("llama2-7b-pure")["settings"]
    port = language_settings("llama2-7b-pure", origin="hugging-face")["settings"]
    assert (native.pop("rms_norm_eps"), port.pop("rms_norm_eps")) == (1e-5, 1e-6)
    assert (native.pop("max_position_embeddings"), port.pop("max_position_embeddings")) == (4096, 2048)
    assert native == port
    # The original could not convert 13B: there is nothing to stay compatible with.
    larger = [language_settings("llama2-13b-chat", origin=one) for one in ("prismatic", "hugging-face")]
    assert larger[0] == larger[1]


def test_the_training_class_forgot_one_activation() -> None:
    clip = vision_settings("clip-vit-l", resize="letterbox")["options"]
    assert clip == {"act_layer": ["quick_gelu"]}
    assert vision_settings(DINOCLIP, resize="letterbox")["options"] == {}
    mended = {"act_layer": [None, "quick_gelu"]}
    assert vision_settings(DINOCLIP, resize="letterbox", origin="hugging-face")["options"] == mended
    assert vision_settings(DINOCLIP, resize="letterbox", activations="towers")["options"] == mended


def test_pictures_differ_between_the_classes_for_one_id_and_for_fused_letterboxes() -> None:
    native = vision_settings("clip-vit-b", resize="resize-crop")
    assert native["edges"] == (248,)
    assert "edges" not in vision_settings("clip-vit-b", resize="resize-crop", origin="hugging-face")
    assert "edges" not in vision_settings("clip-vit-b", resize="resize-naive")
    port = vision_settings("dinosiglip-vit-so-224px", resize="letterbox", origin="hugging-face")
    assert port["fills"] == ((127, 127, 127), (127, 127, 127))
    assert "fills" not in vision_settings("dinosiglip-vit-so-224px", resize="letterbox")


def test_an_unknown_id_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no vision backbone 'clip-vit-x'\. Did you mean 'clip-vit-"):
        vision_entry("clip-vit-x")
    with pytest.raises(UserError, match=r"no language model 'llama2-7b'.*Known: llama2-7b-pure"):
        language_entry("llama2-7b")
