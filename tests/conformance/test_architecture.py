"""Sizes and names of the kit's models, in both forms of their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openvla_toolkit.catalog.backbones import vision_entry
from openvla_toolkit.checkpoints.formats.key_names import from_native, to_native
from openvla_toolkit.checkpoints.tensors import read_tensors
from tests.conformance import kit
from tests.conformance.originals import hugging_face, model_of, policy_of

MODELS = kit.models()
RUNS = [(model, run) for model in MODELS for run in kit.run_folders(model)]


def arch(model: str) -> Any:
    return kit.recorded(f"model/{model}/arch.json")


def stored(model: str) -> dict[str, Tensor]:
    return dict(read_tensors(kit.root() / "model" / model / "hf"))


@pytest.mark.parametrize("model", MODELS)
def test_towers(model: str) -> None:
    stated, backbone = arch(model), model_of(hugging_face(model)).vision_backbone
    towers = dict(zip(("featurizer", "fused_featurizer"), backbone.towers(), strict=False))
    assert towers.keys() == stated["featurizer"].keys()
    for name, sizes in stated["featurizer"].items():
        tower = towers[name]
        assert tower.embed_dim == sizes["embed_dim"]
        assert len(tower.blocks) == sizes["depth"]
        assert tower.blocks[0].attn.num_heads == sizes["num_heads"]
        assert tower.blocks[0].mlp.fc1.out_features == sizes["mlp_hidden"]
        assert tower.num_prefix_tokens == sizes["num_prefix_tokens"]
        assert tower.no_embed_class == sizes["no_embed_class"]
        assert tower.blocks[0].norm1.eps == sizes["eps"]
        assert repr(tower.blocks[0].mlp.act) == sizes["act"]
        assert tower.patch_embed.patch_size[0] == stated["patch_size"]
        assert tower.patch_embed.img_size[0] == stated["image_size"]


@pytest.mark.parametrize("model", MODELS)
def test_language_model(model: str) -> None:
    stated, config = arch(model)["llm"], model_of(hugging_face(model)).language_model.config
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        assert getattr(config, key) == stated[key]
    assert config.rms_norm_eps == stated["rms_norm_eps_hf"]
    assert config.max_position_embeddings == stated["max_position_embeddings_hf"]
    rope = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", None)}
    assert rope["rope_theta"] == stated["rope_theta"]


@pytest.mark.parametrize("model", MODELS)
def test_settings(model: str) -> None:
    stated, config = arch(model), hugging_face(model).config
    assert list(config.vision_backbone.models) == stated["timm_ids"]  # type: ignore[union-attr, attr-defined]
    assert config.projector == stated["arch_specifier"].removeprefix("no-align+")
    assert hugging_face(model).contract.images.strategy == stated["image_resize_strategy"]


@pytest.mark.parametrize("model", MODELS)
def test_names_and_types_of_converted_tensors(model: str) -> None:
    tensors, mapped = stored(model), kit.recorded(f"model/{model}/key_map.json")
    assert set(mapped["only_in_safetensors"]) | {
        n for n, e in mapped["map"].items() if e["in_safetensors"]
    } == set(tensors)
    assert set(model_of(hugging_face(model)).state_dict()) == set(tensors)
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{arch(model)['hf_dtype']}"}
    towers = vision_entry(arch(model)["vision_backbone_id"]).native_prefixes
    layers = sum(name.startswith("projector.") and name.endswith(".weight") for name in tensors)
    for name, entry in mapped["map"].items():
        assert list(tensors[name].shape) == entry["shape"]
        assert from_native(entry["module"], entry["native_key"]) == name
        assert to_native(name, towers=towers, layers=layers) == (entry["module"], entry["native_key"])


@pytest.mark.parametrize(("model", "run"), RUNS, ids=[f"{model}-{run.name}" for model, run in RUNS])
def test_tensors_of_a_training_run(model: str, run: Path) -> None:
    content = torch.load(next((run / "checkpoints").glob("*.pt")), weights_only=True)["model"]
    mapped, tensors = kit.recorded(f"model/{model}/key_map.json"), stored(model)
    native = {f"{module}.{key}": value for module, part in content.items() for key, value in part.items()}
    known = {f"{entry['module']}.{entry['native_key']}" for entry in mapped["map"].values()}
    assert set(native) - known == set(mapped["native_not_in_safetensors"])
    loaded = model_of(policy_of(run)).state_dict()
    for name, entry in mapped["map"].items():
        value = native[f"{entry['module']}.{entry['native_key']}"]
        assert str(value.dtype) == entry["native_dtype"]
        assert torch.equal(loaded[name], value.float())
        assert torch.equal(value.to(tensors[name].dtype), tensors[name]) == entry["equal_after_bf16"]
    assert {str(value.dtype) for value in native.values()} == {arch(model)["native_checkpoint_dtype"]}
