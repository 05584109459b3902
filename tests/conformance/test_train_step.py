"""One training batch of converted models: ids, loss, metrics and gradients; then a few steps of AdamW."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openvla_toolkit.core.types import Sample
from openvla_toolkit.policies.prismatic.freezing import freeze
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit
from tests.conformance.originals import STYLES, asked, batch_of, hugging_face, model_of, speaking

MODELS = [model for model in kit.models() if kit.recorded(f"model/{model}/train_step.json")]
LORA: dict[str, Any] = kit.recorded("lora/expected.json") or {}
SCALAR, STEPS = {"rel": 1e-4}, {"rel": 1e-3}
"""Tolerances of the kit: losses and gradient norms; losses after several steps."""


def stated(model: str) -> Any:
    return kit.recorded(f"model/{model}/train_step.json")


def style_of_batch(model: str, policy: OpenVLAPolicy) -> str:
    """Return the style in which the batch was written."""
    ids, task = stated(model)["input_ids"][0], stated(model)["tasks"][0]
    written = {style: policy.tokenizer(asked(style, task)).input_ids for style in STYLES}
    return next(style for style, begin in written.items() if ids[: len(begin)] == begin)


def learner(model: str) -> OpenVLAPolicy:
    """Return a policy that writes its samples as the batch was written, with a network of its own."""
    policy = hugging_face(model)
    policy = speaking(policy, style_of_batch(model, policy))
    policy.module = copy.deepcopy(model_of(policy))
    freeze(policy.module, ())
    return policy


def samples(model: str, policy: OpenVLAPolicy) -> list[dict[str, Any]]:
    batch, (camera,) = stated(model), policy.contract.cameras
    return [
        policy.processor.encode(
            Sample(
                images={camera: kit.picture(f"model/{model}/{image}")},
                state=None,
                actions=np.array([action], dtype=np.float32),
                instruction=task,
                dataset="kit",
            )
        )
        for image, action, task in zip(batch["images"], batch["actions"], batch["tasks"], strict=True)
    ]


def mean_loss(policy: OpenVLAPolicy, batch: dict[str, Tensor]) -> Tensor:
    report = policy.loss(policy.module, batch)
    return report.total / report.count


def gradient_norm(module: torch.nn.Module) -> float:
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


@pytest.mark.parametrize("model", MODELS)
def test_ids_and_labels(model: str) -> None:
    policy = learner(model)
    batch = batch_of(policy, samples(model, policy))
    assert batch["input_ids"].tolist() == stated(model)["input_ids"]
    assert batch["labels"].tolist() == stated(model)["labels"]
    assert batch["attention_mask"].bool().tolist() == stated(model)["attention_mask"]


@pytest.mark.parametrize("model", MODELS)
def test_loss_metrics_and_gradients(model: str) -> None:
    policy, expected = learner(model), stated(model)
    batch = batch_of(policy, samples(model, policy))
    report = policy.loss(policy.module, batch)
    loss = report.total / report.count
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], **SCALAR)
    right, count = report.metrics["token_accuracy"]
    assert right.item() / count.item() == pytest.approx(expected["action_accuracy"])
    distance, count = report.metrics["l1"]
    assert distance.item() / count.item() == pytest.approx(expected["action_l1"], **SCALAR)
    assert gradient_norm(policy.module) == pytest.approx(expected["total_grad_norm"], **SCALAR)
    gradients = {name: parameter.grad for name, parameter in policy.module.named_parameters()}
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items() if gradient is not None}
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-4, abs=1e-6)
    assert {name for name in gradients if name not in norms} == set(expected["parameters_without_gradient"])


@pytest.mark.parametrize("model", MODELS)
@torch.inference_mode()
def test_loss_of_every_example_alone(model: str) -> None:
    policy = learner(model)
    alone = [mean_loss(policy, batch_of(policy, [sample])).item() for sample in samples(model, policy)]
    assert alone == pytest.approx(stated(model)["per_example_loss_alone"], **SCALAR)


@pytest.mark.parametrize("recipe", [LORA["full_finetuning"]] if "full_finetuning" in LORA else [])
def test_a_few_steps_of_adamw(recipe: dict[str, Any]) -> None:
    model = LORA["train_batch"].split("/")[1]
    policy = learner(model)
    batch = batch_of(policy, samples(model, policy))
    rate = float(recipe["optimizer"].partition("lr=")[2].partition(",")[0])
    optimizer = torch.optim.AdamW(policy.module.parameters(), lr=rate)
    for step in recipe["steps"]:
        loss = mean_loss(policy, batch)
        assert loss.item() == pytest.approx(step["loss"], **STEPS)
        optimizer.zero_grad()
        loss.backward()
        if "grad_norm" in step:
            assert gradient_norm(policy.module) == pytest.approx(step["grad_norm"], **STEPS)
        optimizer.step()
