"""What the original's converted class does at the edges of decoding, and what is done here instead."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.policies.prismatic.text import TextCode
from tests.conformance import kit
from tests.conformance.originals import hugging_face, model_of, observation, speaking, style_of

MODELS = [model for model in kit.models() if kit.recorded(f"model/{model}/hf_outputs.json")]


def outputs(model: str) -> Any:
    return kit.recorded(f"model/{model}/hf_outputs.json")


def asking(model: str, *, dtype: str = "float32") -> tuple[OpenVLAPolicy, dict[str, Any]]:
    """Return a policy that asks as the first case does, and the case."""
    case = outputs(model)["cases"][0]
    return speaking(hugging_face(model, dtype=dtype), style_of(case["prompt"], case["task"])), case


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_key_is_refused_with_all_right_ones(model: str) -> None:
    policy, case = asking(model)
    seen = observation(policy, f"model/{model}/{case['image']}", case["task"])
    for name, message in outputs(model)["errors"].items():
        assert message.startswith("AssertionError")
        with pytest.raises(ContractMismatch) as caught:
            policy.predict_action(seen, unnorm_key=None if name == "None" else name)
        for key, statistics in policy.statistics.items():
            assert key in message
            assert f"{key} ({len(statistics.action.mean)}-D action" in str(caught.value)


@pytest.mark.parametrize("model", MODELS)
def test_no_key_is_needed_where_there_is_one(model: str) -> None:
    stated = outputs(model)["single_key_norm_stats_unnorm_key_none"]
    policy, case = asking(model)
    policy.statistics = {name: policy.statistics[key] for name, key in stated["norm_stats"].items()}
    seen = observation(policy, f"model/{model}/{case['image']}", case["task"])
    np.testing.assert_allclose(policy.predict_action(seen), stated["action"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_eager_attention_acts(model: str) -> None:
    """The original appends an id without extending the mask, which eager attention refuses."""
    stated = outputs(model)["eager_attention"]
    assert stated["error"].startswith("RuntimeError")
    policy, case = asking(model)
    network = model_of(policy)
    seen = observation(policy, f"model/{model}/{case['image']}", case["task"])
    network.language_model.set_attn_implementation("eager")
    try:
        (key,) = [
            key
            for key, action in case["predict_action"].items()
            if action["action"] == stated["action_without_attention_mask"]
        ]
        action = policy.predict_action(seen, unnorm_key=key)
    finally:
        network.language_model.set_attn_implementation(outputs(model)["attn_implementation"])
    np.testing.assert_allclose(action, stated["action_without_attention_mask"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_vocabulary_and_attention(model: str) -> None:
    policy = hugging_face(model)
    size = TextCode.of(policy.tokenizer, length_limit=1).vocabulary_size
    assert size == outputs(model)["model_vocab_size_after_padding_removed"]
    assert (
        model_of(policy).language_model.config._attn_implementation == outputs(model)["attn_implementation"]
    )


@pytest.mark.parametrize("model", MODELS)
def test_batches_are_taken(model: str) -> None:
    assert outputs(model)["generate_batch_of_2"].startswith("ValueError")
    policy, case = asking(model)
    seen = observation(policy, f"model/{model}/{case['image']}", case["task"])
    key = next(iter(case["predict_action"]))
    longer = dataclasses.replace(seen, instruction=f"{case['task']} and then the other one")
    actions = policy.predict_action([longer, seen], unnorm_key=key)
    np.testing.assert_allclose(actions[1], case["predict_action"][key]["action"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_stays_close(model: str) -> None:
    """The kit's bfloat16 runs are for information: kernels differ; the logits must lie in the same place."""
    policy, _ = asking(model, dtype="bfloat16")
    tasks = list(dict.fromkeys(case["task"] for case in outputs(model)["cases"]))
    images = list(dict.fromkeys(case["image"] for case in outputs(model)["cases"]))
    for run in outputs(model)["bf16_cpu_runs"]:
        seen = observation(policy, f"model/{model}/{images[run['image']]}", tasks[run["task"]])
        (chunk,) = policy.predict_chunks([seen], unnorm_key=next(iter(policy.statistics)))
        assert np.isfinite(chunk.actions).all()
        assert len(run["action"]) in {len(entry.action.mean) for entry in policy.statistics.values()}
        if run["logits_last_action_ids"] is not None:
            made = action_logits(policy, seen)
            assert np.corrcoef(made, run["logits_last_action_ids"])[0, 1] > 0.99


@torch.inference_mode()
def action_logits(policy: OpenVLAPolicy, seen: Any) -> np.ndarray[Any, Any]:
    """Return the logits of all action ids right after the prompt, before the separator."""
    item = policy.processor.encode_observation(seen)
    network = model_of(policy)
    ids = torch.from_numpy(item["input_ids"])[None, :-1]
    features = network.image_features(torch.from_numpy(item["pixel_values"])[None])
    hidden, _ = network.prefill(ids, torch.ones_like(ids), features)
    size = policy.tokenizer.vocab_size
    count = policy.config.head.action_tokenizer.bins  # type: ignore[union-attr, attr-defined]
    return network.logits(hidden)[0, size - count : size].numpy()
