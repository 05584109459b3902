"""The catalog of published models."""

from __future__ import annotations

import pytest

import openvla_toolkit
from openvla_toolkit.catalog.backbones import language_ids, vision_ids
from openvla_toolkit.catalog.models import (
    known_ids,
    model_entry,
    vla_configuration,
    vlm_configuration,
)
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.prompts import PureConfig, VicunaConfig


def test_all_that_was_released_is_there() -> None:
    models = openvla_toolkit.available_models()
    kinds = [model_entry(name).kind for name in models]
    assert (kinds.count("vlm"), kinds.count("policy")) == (49, 7)
    assert len(set(models)) == len(models)
    assert all(model_entry(name).repository for name in models)
    without_weights = [model_entry(name) for name in known_ids() if name not in models]
    assert sorted({model.kind for model in without_weights}) == ["configuration", "vlm"]
    assert len(without_weights) == 11 + 1
    assert not any(model.repository for model in without_weights)


def test_a_model_goes_by_every_one_of_its_names() -> None:
    names = openvla_toolkit.available_model_names()
    assert names["prism-dinosiglip-224px+7b"] == ("Prism-DINOSigLIP 224px 7B",)
    for name, others in names.items():
        assert {model_entry(other).id for other in (name, *others)} == {name}


def test_a_description_has_the_original_s_keys() -> None:
    described = openvla_toolkit.get_model_description("Prism-DINOSigLIP 224px 7B")
    assert described == {
        "name": "DINOSigLIP 224px 7B",
        "optimization_procedure": "single-stage",
        "visual_representation": "DINOv2 ViT-L/14 + SigLIP ViT-SO 14 @ 224px",
        "image_processing": "Naive Resize",
        "language_model": "Llama-2 7B",
        "datasets": ["LLaVa v1.5 Instruct", "LVIS-Instruct-4V", "LRV-Instruct"],
        "train_epochs": 2,
    }
    with pytest.raises(UserError, match=r"no model 'prism-dinosiglip'\. Did you mean 'prism-dinosiglip\+7b'"):
        openvla_toolkit.get_model_description("prism-dinosiglip")


@pytest.mark.parametrize("name", known_ids())
def test_every_model_is_made_of_known_parts(name: str) -> None:
    parts = model_entry(name).architecture
    assert parts.vision_backbone in vision_ids()
    assert parts.language_model in language_ids()
    assert parts.resize in ("resize-naive", "resize-crop", "letterbox")
    sizes = {"3b": (3.0, 3.2), "7b": (7.0, 7.6), "13b": (13.3, 13.9)}
    low, high = sizes[name.rpartition("+")[2] if model_entry(name).kind == "vlm" else "7b"]
    assert low < parts.parameters() / 1e9 < high


def test_openvla_7b_has_the_number_of_parameters_that_users_quote() -> None:
    parts = model_entry("openvla/openvla-7b").architecture
    assert (parts.projector, parts.arch) == ("fused-gelu-mlp", "no-align+fused-gelu-mlp")
    assert parts.parameters() == 7_541_237_184


def test_the_backbone_that_the_original_s_table_confused_is_the_released_one() -> None:
    assert model_entry("prism-siglip+13b").architecture.vision_backbone == "siglip-vit-so400m-384px"


def test_configurations_are_complete_under_the_original_s_names() -> None:
    vlm = vlm_configuration("prism-dinosiglip-224px+7b")
    assert (vlm["arch_specifier"], vlm["finetune_epochs"]) == ("no-align+fused-gelu-mlp", 2)
    assert (vlm["align_learning_rate"], vlm["llm_max_length"]) == (1e-3, 2048)
    vla = vla_configuration("siglip-224px-sandwich+mx-tdroid_carrot_in_bowl")
    assert vla["freeze_llm_backbone"]
    assert not vla["freeze_vision_backbone"]
    assert (vla["base_vlm"], vla["learning_rate"]) == ("siglip-224px+7b", 2e-5)
    with pytest.raises(UserError, match="no configuration 'x'"):
        vla_configuration("x")


def test_every_policy_has_a_prompt_style_that_exists() -> None:
    for name in openvla_toolkit.available_models():
        if model_entry(name).kind == "policy":
            style = model_entry(name).description["prompt"]
            assert style in (PureConfig().name, VicunaConfig().name)
