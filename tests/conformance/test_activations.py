"""What flows through converted models: features, hidden states and logits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conformance import kit
from tests.conformance.originals import CLOSE, hidden_states, hugging_face, matching, model_of, pixels_of

TOWERS = {"alpha": 0, "beta": 1}
"""What the kit calls the halves of fused features."""


def named(pattern: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return model, array and groups of every array whose name fits."""
    return [
        (model, name, groups)
        for model in kit.models()
        for name, groups in matching(kit.arrays(f"model/{model}/arrays.npz"), pattern)
    ]


def expected(model: str, name: str) -> Any:
    return kit.arrays(f"model/{model}/arrays.npz")[name]


def case_of(model: str, name: str) -> dict[str, Any]:
    (case,) = [case for case in kit.cases(f"model/{model}/hf_outputs.json") if case["id"] == name]
    return case


def first_of(model: str, image: str) -> dict[str, Any]:
    cases = kit.cases(f"model/{model}/hf_outputs.json")
    return next(case for case in cases if case["id"].startswith(f"{image}_"))


@cache
def states(model: str, name: str) -> tuple[Tensor, ...]:
    case = case_of(model, name)
    policy = hugging_face(model)
    return hidden_states(policy, case["input_ids"], pixels_of(policy, f"model/{model}/{case['image']}"))


@cache
@torch.inference_mode()
def logits(model: str, name: str) -> Tensor:
    return model_of(hugging_face(model)).logits(states(model, name)[-1])


@pytest.mark.parametrize(("model", "name", "groups"), named(r"(im\d+)_projector_features"))
@torch.inference_mode()
def test_projected_patches(model: str, name: str, groups: tuple[str, ...]) -> None:
    case, policy = first_of(model, groups[0]), hugging_face(model)
    made = model_of(policy).image_features(pixels_of(policy, f"model/{model}/{case['image']}"))[0]
    stride = case["projector_features_rows"].removeprefix("every ").removesuffix("th")
    rows = made if stride == "all" else made[:: int(stride)]
    np.testing.assert_allclose(rows, expected(model, name), **CLOSE)


@pytest.mark.parametrize(("model", "name", "groups"), named(r"(im\d+)_vision_features_(\w+)"))
@torch.inference_mode()
def test_features_of_a_tower(model: str, name: str, groups: tuple[str, ...]) -> None:
    case, policy = first_of(model, groups[0]), hugging_face(model)
    backbone = model_of(policy).vision_backbone
    features = backbone(pixels_of(policy, f"model/{model}/{case['image']}"))[0]
    widths = [int(tower.embed_dim) for tower in backbone.towers()]
    np.testing.assert_allclose(
        features.split(widths, dim=-1)[TOWERS[groups[1]]], expected(model, name), **CLOSE
    )


@pytest.mark.parametrize(("model", "name", "groups"), named(r"(im\d+_task\d+)_llm_hidden_(\d+)_last(\d+)"))
def test_hidden_states(model: str, name: str, groups: tuple[str, ...]) -> None:
    state = states(model, groups[0])[int(groups[1])]
    np.testing.assert_allclose(state[-int(groups[2]) :], expected(model, name), **CLOSE)


@pytest.mark.parametrize(
    ("model", "name", "groups"), named(r"(im\d+_task\d+)_logits_last(\d*)_(?:full|ids(\d+)_(\d+))")
)
def test_logits(model: str, name: str, groups: tuple[str, ...]) -> None:
    case, count, start, end = groups
    made = logits(model, case)[-int(count or 1) :, int(start or 0) : int(end or 0) or None]
    np.testing.assert_allclose(made.reshape(expected(model, name).shape), expected(model, name), **CLOSE)


@pytest.mark.parametrize(("model", "name", "groups"), named(r"language_only_logits_last_ids(\d+)_(\d+)"))
@torch.inference_mode()
def test_logits_without_a_picture(model: str, name: str, groups: tuple[str, ...]) -> None:
    policy, case = hugging_face(model), kit.cases(f"model/{model}/hf_outputs.json")[0]
    last = hidden_states(policy, case["input_ids"], None)[-1][-1]
    made = model_of(policy).logits(last)[int(groups[0]) : int(groups[1])]
    np.testing.assert_allclose(made, expected(model, name), **CLOSE)


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, case["id"]) for model in kit.models() for case in kit.cases(f"model/{model}/hf_outputs.json")],
)
@torch.inference_mode()
def test_margins_of_the_decoded_ids(model: str, name: str) -> None:
    case, policy = case_of(model, name), hugging_face(model)
    assert [1, states(model, name)[-1].shape[0], logits(model, name).shape[-1]] == case["logits_shape"]
    ids = case["generated_ids_10_after_29871"]
    separator = policy.tokenizer.convert_tokens_to_ids("▁")
    told = [*case["input_ids"], separator, *ids[:-1]]
    pixels = pixels_of(policy, f"model/{model}/{case['image']}")
    last = hidden_states(policy, told, pixels)[-1][-len(ids) :]
    best = model_of(policy).logits(last).topk(2, dim=-1)
    assert best.indices[:, 0].tolist() == ids
    np.testing.assert_allclose(best.values[:, 0], case["top1_logit"], **CLOSE)
    margins = best.values[:, 0] - best.values[:, 1]
    np.testing.assert_allclose(margins, case["top1_top2_margin"], rtol=1e-4, atol=2e-4)
