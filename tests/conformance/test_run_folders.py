"""``load_policy`` on the original's training runs: actions, losses and speech of its own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.types import Sample
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit
from tests.conformance.originals import (
    CLOSE,
    asked,
    batch_of,
    hidden_states,
    matching,
    model_of,
    observation,
    pixels_of,
    policy_of,
    speaking,
)

RUNS = [
    (model, run)
    for model in kit.models()
    for run in kit.run_folders(model)
    if kit.recorded(f"model/{model}/native_outputs.json")
]
each_run = pytest.mark.parametrize(("model", "run"), RUNS, ids=[f"{model}-{run.name}" for model, run in RUNS])
TAUGHT = [(model, run) for model, run in RUNS if kit.recorded(f"model/{model}/train_step.json")]
each_taught_run = pytest.mark.parametrize(
    ("model", "run"), TAUGHT, ids=[f"{model}-{run.name}" for model, run in TAUGHT]
)
CASES = [
    (model, run, case) for model, run in RUNS for case in kit.cases(f"model/{model}/native_outputs.json")
]


def outputs(model: str) -> Any:
    return kit.recorded(f"model/{model}/native_outputs.json")


def native(run: Path) -> OpenVLAPolicy:
    """Return the policy with its own prompt style and the original's free choice among all ids."""
    policy = policy_of(run)
    assert policy.config.prompt is not None
    return speaking(policy, policy.config.prompt.name)


def encoded(model: str, policy: OpenVLAPolicy) -> list[dict[str, Any]]:
    """Write the kit's training batch in the run's own prompt style."""
    batch, (camera,) = kit.recorded(f"model/{model}/train_step.json"), policy.contract.cameras
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


@pytest.mark.parametrize(
    ("model", "run", "case"),
    CASES,
    ids=[f"{model}-{case['image']}-{case['task']}" for model, _, case in CASES],
)
def test_actions(model: str, run: Path, case: dict[str, Any]) -> None:
    policy = native(run)
    seen = observation(policy, f"model/{model}/{case['image']}", case["task"])
    action = policy.predict_action(seen, unnorm_key=case["unnorm_key"])
    np.testing.assert_allclose(action, case["action"], rtol=0, atol=1e-12)


@each_run
def test_settings_that_conversion_changes(model: str, run: Path) -> None:
    config = model_of(policy_of(run)).language_model.config
    assert config.rms_norm_eps == outputs(model)["rms_norm_eps"]
    assert config.max_position_embeddings == outputs(model)["max_position_embeddings"]


@each_taught_run
@torch.inference_mode()
def test_loss(model: str, run: Path) -> None:
    policy = native(run)
    report = policy.loss(policy.module, batch_of(policy, encoded(model, policy)))
    assert (report.total / report.count).item() == pytest.approx(outputs(model)["loss"], rel=1e-4)


@each_taught_run
@torch.inference_mode()
def test_loss_of_a_batch_with_text_alone(model: str, run: Path) -> None:
    policy = native(run)
    found = [key for key in outputs(model) if key.startswith("loss_with_multimodal_indices_")]
    assert found
    for key in found:
        rows = {int(row) for row in key.removeprefix("loss_with_multimodal_indices_").split("_")}
        items = encoded(model, policy)
        for number, item in enumerate(items):
            if number not in rows:
                del item["pixel_values"]
        report = policy.loss(policy.module, batch_of(policy, items))
        assert (report.total / report.count).item() == pytest.approx(outputs(model)[key], rel=1e-4)


@each_taught_run
def test_ids_of_the_training_batch(model: str, run: Path) -> None:
    policy, converted = native(run), kit.recorded(f"model/{model}/train_step.json")["input_ids"]
    made = batch_of(policy, encoded(model, policy))["input_ids"].tolist()
    assert (made == converted) == outputs(model)["same_input_ids_as_hf"]


@each_run
@torch.inference_mode()
def test_speech(model: str, run: Path) -> None:
    stated, policy = outputs(model)["generate_text"], native(run)
    pixels = pixels_of(policy, f"model/{model}/{stated['image']}")
    ids = policy.tokenizer(stated["prompt"]).input_ids
    spoken: list[int] = []
    while len(spoken) < stated["max_new_tokens"] and policy.tokenizer.eos_token_id not in spoken:
        last = hidden_states(policy, [*ids, *spoken], pixels)[-1][-1]
        spoken.append(int(model_of(policy).logits(last).argmax()))
    assert policy.tokenizer.decode(spoken, skip_special_tokens=True).strip() == stated["text"]


@each_taught_run
@torch.inference_mode()
def test_logits_of_the_training_batch(model: str, run: Path) -> None:
    policy = native(run)
    stored = kit.arrays(f"model/{model}/arrays.npz")
    found = list(matching(stored, r"native_train_logits_last(\d+)_ids(\d+)_(\d+)"))
    assert found
    items = encoded(model, policy)
    longest = max(len(item["input_ids"]) for item in items)
    for name, (count, start, end) in found:
        for item, expected in zip(items, stored[name], strict=True):
            padding = longest - len(item["input_ids"])
            real = expected[: len(expected) - padding]  # what stands at padding has no meaning
            pixels = torch.from_numpy(item["pixel_values"])[None]
            states = hidden_states(policy, item["input_ids"].tolist(), pixels)[-1][-len(real) :]
            made = model_of(policy).logits(states)[:, int(start) : int(end)]
            np.testing.assert_allclose(made, real, **CLOSE)
            assert len(expected) == int(count)


@each_run
def test_the_run_s_own_prompt_is_used(model: str, run: Path) -> None:
    policy = policy_of(run)
    assert policy.config.prompt is not None
    case = outputs(model)["cases"][0]
    item = policy.processor.encode_observation(
        observation(policy, f"model/{model}/{case['image']}", case["task"])
    )
    text = asked(policy.config.prompt.name, case["task"])
    assert item["input_ids"].tolist()[:-1] == policy.tokenizer(text).input_ids
