"""Converted checkpoints through the classes of ``transformers``, called as the original is called."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.policies.prismatic.hugging_face import register_auto_classes
from tests.conformance import kit
from tests.conformance.originals import CLOSE, matching, sha256

CASES = [(model, case) for model in kit.models() for case in kit.cases(f"model/{model}/hf_outputs.json")]
each_case = pytest.mark.parametrize(
    ("model", "case"), CASES, ids=[f"{model}-{case['id']}" for model, case in CASES]
)
SIZES = ("embed_dim", "depth", "num_heads")


@cache
def loaded(model: str) -> tuple[Any, Any]:
    """Return model and processor; the sizes of small towers are not in the file of an original."""
    register_auto_classes()
    folder = kit.root() / "model" / model / "hf"
    towers = kit.recorded(f"model/{model}/arch.json")["featurizer"].values()
    options = [{key: tower[key] for key in SIZES} for tower in towers]
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, timm_options=options)
    return network.eval(), AutoProcessor.from_pretrained(folder)


def inputs(model: str, case: dict[str, Any]) -> Any:
    with Image.open(kit.root() / "model" / model / case["image"]) as picture:
        return loaded(model)[1](case["prompt"], picture)


@each_case
def test_inputs(model: str, case: dict[str, Any]) -> None:
    made = inputs(model, case)
    assert made["input_ids"].tolist() == [case["input_ids"]]
    assert made["attention_mask"].tolist() == [case["attention_mask"]]
    assert sha256(made["pixel_values"].numpy()[0]) == case["pixel_values_sha256"]


@each_case
@torch.inference_mode()
def test_actions(model: str, case: dict[str, Any]) -> None:
    network, made = loaded(model)[0], inputs(model, case)
    for key, expected in case["predict_action"].items():
        action = network.predict_action(**made, unnorm_key=key, do_sample=False)
        assert action.dtype == expected["dtype"]
        np.testing.assert_allclose(action, expected["action"], rtol=0, atol=1e-12)


@each_case
@torch.inference_mode()
def test_an_action_without_a_mask(model: str, case: dict[str, Any]) -> None:
    assert case["same_action_without_attention_mask"] is True
    made = inputs(model, case)
    del made["attention_mask"]
    key, expected = next(iter(case["predict_action"].items()))
    action = loaded(model)[0].predict_action(**made, unnorm_key=key, do_sample=False)
    np.testing.assert_allclose(action, expected["action"], rtol=0, atol=1e-12)


@each_case
@torch.inference_mode()
def test_generated_ids(model: str, case: dict[str, Any]) -> None:
    network, made = loaded(model)[0], inputs(model, case)
    found = [key for key in case if re.fullmatch(r"generated_ids_\d+_without_\d+", key)]
    assert found
    for key in found:
        count = len(case[key])
        ids = network.generate(**made, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        assert ids[0, -count:].tolist() == case[key]


@each_case
@torch.inference_mode()
def test_logits(model: str, case: dict[str, Any]) -> None:
    output = loaded(model)[0](**inputs(model, case))
    assert list(output.logits.shape) == case["logits_shape"]
    stored = kit.arrays(f"model/{model}/arrays.npz")
    found = list(matching(stored, case["id"] + r"_logits_last(\d+)_ids(\d+)_(\d+)"))
    assert found
    for name, (count, start, end) in found:
        made = output.logits[0, -int(count) :, int(start) : int(end)]
        np.testing.assert_allclose(made, stored[name], **CLOSE)


@pytest.mark.parametrize("model", kit.models())
def test_a_wrong_key_is_refused(model: str) -> None:
    case = kit.cases(f"model/{model}/hf_outputs.json")[0]
    for name in kit.recorded(f"model/{model}/hf_outputs.json")["errors"]:
        with pytest.raises(ContractMismatch, match="-D action"):
            loaded(model)[0].predict_action(
                **inputs(model, case), unnorm_key=None if name == "None" else name
            )


@pytest.mark.parametrize(
    "model", [model for model in kit.models() if kit.recorded(f"model/{model}/train_step.json")]
)
@torch.inference_mode()
def test_loss_of_the_training_batch(model: str) -> None:
    batch = kit.recorded(f"model/{model}/train_step.json")
    network, processor = loaded(model)
    pictures = [Image.open(kit.root() / "model" / model / image) for image in batch["images"]]
    output = network(
        input_ids=torch.tensor(batch["input_ids"]),
        attention_mask=torch.tensor(batch["attention_mask"]),
        pixel_values=processor.image_processor(pictures, return_tensors="pt")["pixel_values"],
        labels=torch.tensor(batch["labels"]),
    )
    assert output.loss.item() == pytest.approx(batch["loss"], rel=1e-4)
