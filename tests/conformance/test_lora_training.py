"""Adapters in training: which layers get one, of which sizes, and a few steps from the kit's own adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit
from tests.conformance.originals import batch_of, speaking
from tests.conformance.test_train_step import STEPS, samples, style_of_batch

TARGETS: dict[str, Any] = kit.recorded("lora/all_linear_targets.json") or {}
RECORDED: dict[str, Any] = kit.recorded("lora/expected.json") or {}
TRAINED = [RECORDED["lora_training"]] if "lora_training" in RECORDED else []


def adapter_of(policy: OpenVLAPolicy) -> dict[str, Tensor]:
    """Return the tensors of a policy's adapter under peft's names."""
    state = policy.module.state_dict()
    return {f"base_model.model.{name}": state[name] for name in policy.weight_names() or ()}


def built(weights: str, **lora: Any) -> OpenVLAPolicy:
    settings: dict[str, Any] = {"weights": weights, "merge": False, "lora": lora}
    return OpenVLAConfig.model_validate(settings).build()


@pytest.mark.parametrize("model", sorted(TARGETS))
def test_layers_and_sizes(model: str) -> None:
    expected = TARGETS[model]
    policy = built(str(kit.root() / "model" / model / "hf"), rank=expected["r"])
    tensors = adapter_of(policy)
    assert {name: list(value.shape) for name, value in tensors.items()} == dict(expected["trainable"])
    assert sum(value.numel() for value in tensors.values()) == expected["n_trainable_params"]
    assert len(expected["trainable"]) == len(tensors)
    settings: Any = policy.module.peft_config
    assert settings["default"].lora_alpha == expected["lora_alpha"]
    layers = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in tensors}
    assert {name.rpartition(".")[2] for name in layers} == set(expected["target_modules"])
    linear = {
        name.removesuffix(".base_layer") for name, one in policy.module.named_modules() if is_linear(one)
    }
    assert {name for name in linear - layers if ".lora_" not in name} == set(
        expected["linear_layers_without_lora"]
    )


def is_linear(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear


@pytest.mark.parametrize("recipe", TRAINED)
def test_a_few_steps(recipe: dict[str, Any]) -> None:
    model = RECORDED["train_batch"].split("/")[1]
    policy = built(str(kit.root() / "lora" / "adapter"), rank=RECORDED["rank"], alpha=RECORDED["lora_alpha"])
    policy = speaking(policy, style_of_batch(model, policy))
    engine = SingleConfig(device="cpu").build()
    rate = float(recipe["optimizer"].partition("lr=")[2].partition(",")[0])
    engine.prepare(policy.module, Optimizer(lr=rate, weight_decay=1e-2))
    batch = {key: value.numpy() for key, value in batch_of(policy, samples(model, policy)).items()}
    for step in recipe["steps"]:
        report = engine.step([batch], policy.loss, lr=rate, clip_norm=None)
        assert report.loss == pytest.approx(step["loss"], **STEPS)
        if "grad_norm" in step:
            assert report.grad_norm == pytest.approx(step["grad_norm"], **STEPS)
