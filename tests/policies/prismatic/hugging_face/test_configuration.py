"""``config.json``: what follows from the ids, what may stand in their place, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import CheckpointError, OpenVLAError, UserError
from openvla_toolkit.policies.prismatic.hugging_face import OpenVLAConfig, PrismaticConfig

TOWER = {"timm_model_ids": ["vit_tiny_patch16_224"], "image_sizes": [32]}


def test_the_original_s_defaults() -> None:
    config = PrismaticConfig()
    assert config.timm_model_ids == ["vit_so400m_patch14_siglip_224"]
    assert config.image_sizes == [224]
    assert config.hf_llm_id == "lmsys/vicuna-7b-v1.5"
    assert (config.image_resize_strategy, config.arch_specifier) == ("letterbox", "no-align+gelu-mlp")
    assert (config.text_config.model_type, config.text_config.rms_norm_eps) == ("llama", 1e-6)
    assert not config.use_fused_vision_backbone


def test_a_fused_backbone_and_its_activations_follow_from_the_id() -> None:
    config = OpenVLAConfig(vision_backbone_id="dinoclip-vit-l-336px", llm_backbone_id="mistral-v0.1-7b-pure")
    assert config.use_fused_vision_backbone
    assert config.image_sizes == [336, 336]
    assert config.timm_override_act_layers == [None, "quick_gelu"]
    assert config.text_config.model_type == "mistral"


@pytest.mark.parametrize(
    ("specifier", "name"),
    [
        ("linear", "linear"),
        ("no-align+linear", "linear"),
        ("gelu-mlp", "gelu-mlp"),
        ("no-align+gelu-mlp", "gelu-mlp"),
        ("fused-gelu-mlp", "fused-gelu-mlp"),
        ("no-align+fused-gelu-mlp", "fused-gelu-mlp"),
    ],
)
def test_the_projector_is_read_as_the_original_reads_it(specifier: str, name: str) -> None:
    assert PrismaticConfig(arch_specifier=specifier).projector_name() == name


def test_action_ids_count_down_from_the_rows_less_the_padding() -> None:
    config = OpenVLAConfig(text_config={"model_type": "llama", "vocab_size": 32064})
    assert config.action_vocabulary() == 32000


def test_files_are_readable_for_releases_before_and_after_5(tmp_path: Path) -> None:
    text = {"model_type": "llama", "hidden_size": 64, "rope_theta": 500.0}
    OpenVLAConfig(**TOWER, text_config=text, torch_dtype="bfloat16").save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["torch_dtype"] == "bfloat16"
    assert written["text_config"]["rope_theta"] == 500.0
    assert "timm_options" not in written
    again = OpenVLAConfig.from_pretrained(tmp_path)
    assert again.to_dict()["text_config"] == OpenVLAConfig(**TOWER, text_config=text).to_dict()["text_config"]


@pytest.mark.parametrize("separator", [7, None])
def test_another_separator_is_kept(tmp_path: Path, separator: int | None) -> None:
    OpenVLAConfig(**TOWER, separator_id=separator).save_pretrained(tmp_path)
    assert OpenVLAConfig.from_pretrained(tmp_path).separator_id == separator
    assert OpenVLAConfig().separator_id == 29871


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"vision_backbone_id": "dinosiglip-vit-so-223px"},
            UserError,
            "mean 'dinosiglip-vit-so-224px'",
        ),
        ({"llm_backbone_id": "llama3"}, UserError, "no language model 'llama3'"),
        ({"arch_specifier": "qformer"}, CheckpointError, "'arch_specifier' is 'qformer'"),
        ({"image_resize_strategy": "stretch"}, CheckpointError, "'image_resize_strategy' is 'stretch'"),
        ({**TOWER, "image_sizes": [32, 32]}, CheckpointError, "'image_sizes' has 2 entries for 1"),
        (
            {**TOWER, "use_fused_vision_backbone": True},
            CheckpointError,
            "'use_fused_vision_backbone' is True",
        ),
        ({**TOWER, "timm_options": []}, CheckpointError, "'timm_options' has 0 entries for 1"),
        ({"text_config": {"model_type": "none"}}, CheckpointError, "'text_config' does not describe"),
        (
            {"timm_model_ids": ["a", "b"], "image_sizes": [224, 336]},
            CheckpointError,
            r"'image_sizes' is \[224, 336\]",
        ),
    ],
)
def test_contradictions_are_named(fields: dict[str, Any], error: type[OpenVLAError], message: str) -> None:
    with pytest.raises(error, match=message):
        PrismaticConfig(**fields)
