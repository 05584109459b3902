"""A LoRA adapter of peft on its base, merged into the weights and beside them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit import load_policy
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit
from tests.conformance.originals import (
    CLOSE,
    hidden_states,
    matching,
    model_of,
    observation,
    pixels_of,
    prompt_config,
    style_of,
)

RECORDED: dict[str, Any] = kit.recorded("lora/expected.json") or {}
CASES = kit.cases("lora/expected.json")
FORMS = {"unmerged": False, "merged": True}


def model() -> str:
    """Return the name of the model that the adapter was trained on."""
    return str(RECORDED["base"].split("/")[1])


@cache
def adapted(style: str, *, merge: bool) -> OpenVLAPolicy:
    """Load the adapter on the base that it names."""
    policy = load_policy(
        kit.root() / "lora" / "adapter",
        merge=merge,
        prompt=prompt_config(style),
        head={"name": "tokens", "constrain": False},
    )
    assert isinstance(policy, OpenVLAPolicy)
    return policy


def told(case: dict[str, Any]) -> str:
    """Return the task of a case; the kit's adapter records prompts alone."""
    tasks = {entry["task"]: entry["prompt"] for entry in kit.cases(f"model/{model()}/hf_outputs.json")}
    return next(task for task, prompt in tasks.items() if prompt == case["prompt"])


@pytest.mark.parametrize("merge", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_actions(case: dict[str, Any], merge: bool) -> None:
    task = told(case)
    policy = adapted(style_of(case["prompt"], task), merge=merge)
    seen = observation(policy, f"model/{model()}/{case['image']}", task)
    start = "merged_action_" if merge else "action_"
    found = {key.removeprefix(start): value for key, value in case.items() if key.startswith(start)}
    assert found
    for key, expected in found.items():
        np.testing.assert_allclose(policy.predict_action(seen, unnorm_key=key), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "groups"),
    list(matching(kit.arrays("lora/arrays.npz"), r"(\w+?)_(unmerged|merged)_logits_last_ids(\d+)_(\d+)")),
)
@torch.inference_mode()
def test_logits(name: str, groups: tuple[str, ...]) -> None:
    (case,) = [case for case in CASES if case["id"] == groups[0]]
    policy = adapted(style_of(case["prompt"], told(case)), merge=FORMS[groups[1]])
    pixels = pixels_of(policy, f"model/{model()}/{case['image']}")
    last = hidden_states(policy, policy.tokenizer(case["prompt"]).input_ids, pixels)[-1][-1]
    made = model_of(policy).logits(last)[int(groups[2]) : int(groups[3])]
    np.testing.assert_allclose(made, kit.arrays("lora/arrays.npz")[name], **CLOSE)


@pytest.mark.parametrize("key", sorted(RECORDED.keys() & {"rank", "lora_alpha"}))
def test_settings_of_the_adapter(key: str) -> None:
    stored = json.loads((kit.root() / "lora" / "adapter" / "adapter_config.json").read_text())
    assert stored["r" if key == "rank" else key] == RECORDED[key]
