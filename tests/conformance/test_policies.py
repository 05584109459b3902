"""``load_policy`` on converted checkpoints: ids, pixels, decoded ids and actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.types import Observation
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit
from tests.conformance.originals import (
    asked,
    hugging_face,
    model_of,
    observation,
    sha256,
    speaking,
    style_of,
)

CASES = [(model, case) for model in kit.models() for case in kit.cases(f"model/{model}/hf_outputs.json")]
PICTURES = [(model, case) for model in kit.models() for case in kit.cases(f"model/{model}/pixel_values.json")]
each_case = pytest.mark.parametrize(
    ("model", "case"), CASES, ids=[f"{model}-{case['id']}" for model, case in CASES]
)


def asking(model: str, case: dict[str, Any], *, constrain: bool = False) -> tuple[OpenVLAPolicy, Observation]:
    """Return a policy that asks as the case does, and what it is shown."""
    policy = speaking(hugging_face(model), style_of(case["prompt"], case["task"]), constrain=constrain)
    return policy, observation(policy, f"model/{model}/{case['image']}", case["task"])


def greedy(policy: OpenVLAPolicy, ids: list[int], pixels: torch.Tensor, count: int) -> list[int]:
    """Decode ids right after a prompt of ids."""
    batch = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
        "pixel_values": pixels,
    }
    decoded: list[int] = policy.head.decode_ids(model_of(policy), batch, count=count)[0].tolist()  # type: ignore[attr-defined]
    return decoded


def action_ids(policy: OpenVLAPolicy) -> set[int]:
    """Return the ids that stand for actions."""
    bins: int = policy.config.head.action_tokenizer.bins  # type: ignore[union-attr, attr-defined]
    return set(range(policy.tokenizer.vocab_size - bins, policy.tokenizer.vocab_size))


def pixels(policy: OpenVLAPolicy, seen: Observation) -> torch.Tensor:
    return torch.from_numpy(policy.processor.encode_observation(seen)["pixel_values"])[None]


@each_case
def test_ids_and_pixels(model: str, case: dict[str, Any]) -> None:
    policy, seen = asking(model, case)
    item = policy.processor.encode_observation(seen)
    assert asked(style_of(case["prompt"], case["task"]), case["task"]) == case["prompt"]
    assert policy.tokenizer(case["prompt"]).input_ids == case["input_ids"]
    assert policy.tokenizer(case["prompt"]).attention_mask == case["attention_mask"]
    *prompt, separator = item["input_ids"].tolist()
    assert prompt == case["input_ids"]
    assert separator == policy.tokenizer.convert_tokens_to_ids("▁")
    assert sha256(item["pixel_values"]) == case["pixel_values_sha256"]


@each_case
def test_decoded_ids(model: str, case: dict[str, Any]) -> None:
    policy, seen = asking(model, case)
    prompt = policy.processor.encode_observation(seen)["input_ids"].tolist()
    for key, value in case.items():
        if key.startswith("generated_ids_"):
            ids = case["input_ids"] if "_without_" in key else prompt
            assert greedy(policy, ids, pixels(policy, seen), len(value)) == value, key


@each_case
def test_actions(model: str, case: dict[str, Any]) -> None:
    policy, seen = asking(model, case)
    for key, expected in case["predict_action"].items():
        action = policy.predict_action(seen, unnorm_key=key)
        assert action.dtype == expected["dtype"]
        np.testing.assert_allclose(action, expected["action"], rtol=0, atol=1e-12)


@each_case
def test_choosing_among_action_ids_changes_nothing_where_they_win(model: str, case: dict[str, Any]) -> None:
    free, seen = asking(model, case)
    policy, _ = asking(model, case, constrain=True)
    for key, expected in case["predict_action"].items():
        (chunk,) = free.predict_chunks([seen], unnorm_key=key)
        assert chunk.tokens is not None
        if set(chunk.tokens.flat) <= action_ids(policy):
            np.testing.assert_allclose(
                policy.predict_action(seen, unnorm_key=key), expected["action"], rtol=0, atol=1e-12
            )


@each_case
def test_the_separator_is_added_once(model: str, case: dict[str, Any]) -> None:
    assert case["same_action_when_29871_already_there"] is True
    policy, seen = asking(model, case)
    prompt = policy.processor.encode_observation(seen)["input_ids"]
    np.testing.assert_array_equal(policy.head.targets.prompt(prompt), prompt)


@pytest.mark.parametrize("model", kit.models())
def test_a_batch_is_many_single_ones(model: str) -> None:
    """The original refuses batches (``generate_batch_of_2``); here rows do not touch each other."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in kit.cases(f"model/{model}/hf_outputs.json"):
        groups.setdefault(style_of(case["prompt"], case["task"]), []).append(case)
    for cases in groups.values():
        policy, _ = asking(model, cases[0])
        seen = [asking(model, case)[1] for case in cases]
        for key in set.intersection(*(set(case["predict_action"]) for case in cases)):
            actions = policy.predict_action(seen, unnorm_key=key)
            expected = [case["predict_action"][key]["action"] for case in cases]
            np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("model", "case"), PICTURES, ids=[f"{m}-{c['image']}" for m, c in PICTURES])
def test_pixels(model: str, case: dict[str, Any]) -> None:
    policy = hugging_face(model)
    values = pixels(policy, observation(policy, f"model/{model}/{case['image']}", ""))[0].numpy()
    assert list(values.shape) == case["shape"]
    places = tuple(np.array(case["sample_index"]).T)
    np.testing.assert_allclose(values[places], case["sample_value"], rtol=0, atol=1e-6)
    assert sha256(values) == case["sha256_float32"]


@pytest.mark.parametrize("model", kit.models())
def test_constants_are_those_that_conversion_stored(model: str) -> None:
    stated = kit.recorded(f"model/{model}/pixel_values.json")
    recipe = hugging_face(model).contract.images
    used = stated["tvf_normalize_params_used"]
    assert [list(mean) for mean in recipe.means] == [entry["mean"] for entry in used]
    assert [list(std) for std in recipe.stds] == [entry["std"] for entry in used]
