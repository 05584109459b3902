"""``predict_action`` as the original's callers call it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openvla_toolkit.core.contract import DIALECTS, Normalization
from openvla_toolkit.core.errors import ContractMismatch, UserError
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.policies.prismatic.hugging_face.conftest import Words

PROMPT = "In: What action should the robot take to push the red cube?\nOut:"


@pytest.fixture
def processor(folder: Any) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


def unconstrained(policy: OpenVLAPolicy, model: Any) -> OpenVLAPolicy:
    """Let the policy answer any id, as ``generate`` does."""
    from openvla_toolkit.action_heads import TokensConfig

    policy.head = TokensConfig(constrain=False).build(
        vocabulary_size=model.vocab_size,
        end_id=policy.tokenizer.eos_token_id,  # type: ignore[arg-type]
        separator_id=model.config.separator_id,
    )
    return policy


def test_actions_are_those_of_the_policy_without_constraint(
    model: Any, processor: Any, seeded: OpenVLAPolicy, picture: Image.Image
) -> None:
    expected = unconstrained(seeded, model).predict_action(picture, "push the red cube", unnorm_key="toy")
    action = model.predict_action(**processor(PROMPT, picture), unnorm_key="toy", do_sample=False)
    assert action.dtype == np.float64
    np.testing.assert_array_equal(action, expected)


def test_actions_are_scaled_as_the_policy_scales_them(
    processor: Any, seeded: OpenVLAPolicy, picture: Image.Image, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    rule = Normalization(**DIALECTS["lerobot-mean-std"])
    plain = seeded.predict_action(picture, "push the red cube", unnorm_key="toy")
    seeded.config = seeded.config.model_copy(update={"normalization": rule})
    seeded.contract = seeded.contract.model_copy(update={"normalization": rule})
    seeded.save(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    expected = unconstrained(seeded, model).predict_action(picture, "push the red cube", unnorm_key="toy")
    action = model.predict_action(**processor(PROMPT, picture), unnorm_key="toy", do_sample=False)
    np.testing.assert_array_equal(action, expected)
    assert (expected != plain).any()


def test_a_prompt_that_ends_in_the_separator_is_not_given_a_second(model: Any, words: Words) -> None:
    model.config.separator_id = 7
    batch = words(PROMPT)
    ids, mask = model._with_separator(batch["input_ids"], batch["attention_mask"])
    assert ids[0, -1] == 7
    assert ids.shape == mask.shape == (1, batch["input_ids"].shape[1] + 1)
    again, _ = model._with_separator(ids, mask)
    assert again.shape == ids.shape


@pytest.mark.parametrize("side", ["left", "right"])
def test_many_prompts_are_answered_as_one_by_one(
    model: Any, words: Words, pixels: torch.Tensor, side: str
) -> None:
    texts = ("push", "put the blue ball on the plate", "lift it")
    many = model.predict_action(**words(*texts, side=side), pixel_values=pixels, do_sample=False)
    assert many.shape == (3, 4)
    for row, text in enumerate(texts):
        one = model.predict_action(**words(text), pixel_values=pixels[row : row + 1], do_sample=False)
        np.testing.assert_array_equal(many[row], one)


def test_the_end_does_not_come_before_the_last_number(model: Any, words: Words, pixels: torch.Tensor) -> None:
    with torch.no_grad():
        head = model.get_output_embeddings()
        head.weight[model.generation_config.eos_token_id] = 0
        head.weight.mul_(-1)  # whatever was likely is not; the end, at zero, beats most
    action = model.predict_action(**words("push"), pixel_values=pixels[:1], do_sample=False)
    assert action.shape == (4,)


def test_dimensions_and_statistics_are_public(model: Any) -> None:
    assert model.get_action_dim("toy") == model.get_action_dim() == 4
    assert model.get_action_stats("toy") == model.norm_stats["toy"]["action"]


def test_statistics_may_be_replaced(model: Any, words: Words, pixels: torch.Tensor) -> None:
    model.norm_stats = {**model.norm_stats, "other": model.norm_stats["toy"]}
    with pytest.raises(ContractMismatch, match=re.escape("other (4-D action, 10 frames); toy (4-D")):
        model.predict_action(**words("push"), pixel_values=pixels[:1])
    with pytest.raises(ContractMismatch, match="no statistics named 'nope'"):
        model.predict_action(**words("push"), pixel_values=pixels[:1], unnorm_key="nope")
    model.norm_stats = None
    with pytest.raises(ContractMismatch, match="no statistics"):
        model.get_action_dim()


def test_a_prompt_is_needed(model: Any) -> None:
    with pytest.raises(UserError, match="nothing was given"):
        model.predict_action(unnorm_key="toy")
    with pytest.raises(UserError, match=re.escape("shape [3] was given")):
        model.predict_action(torch.tensor([1, 2, 3]))


def test_a_picture_is_needed(model: Any, words: Words) -> None:
    with pytest.raises(UserError, match="pixel_values are missing"):
        model.predict_action(**words("push"), unnorm_key="toy")
