"""Words about pictures: alone and in batches, turn by turn, and how likely single answers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.policies.prismatic.conftest import Make

SHORT: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6}


@pytest.fixture
def speaking(make_policy: Make) -> OpenVLAPolicy:
    policy = make_policy(cameras=["primary"], projector_std=0.2)
    model: Any = policy.module
    with torch.no_grad():
        model.language_model.lm_head.weight.mul_(20)
    return policy


def pictures() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (40, 32, 3), dtype=np.uint8) for _ in range(3)]


def test_prompts_of_a_batch_are_answered_as_alone(speaking: OpenVLAPolicy) -> None:
    images = [pictures()[0], None, pictures()[2]]
    prompts = ["push the cube", "a", "put the blue ball on the plate and then rest"]
    together = speaking.speaker.generate(images, prompts, **SHORT)
    alone = [speaking.generate(image, prompt, **SHORT) for image, prompt in zip(images, prompts, strict=True)]
    assert together == alone
    assert len(set(together)) == 3


def test_the_picture_matters(speaking: OpenVLAPolicy) -> None:
    one, other = pictures()[:2]
    answers = ("a", "b", "c")
    assert speaking.speaker.probabilities(one, "x", answers) != speaking.speaker.probabilities(
        other, "x", answers
    )


def test_probabilities_of_single_tokens_sum_to_one(speaking: OpenVLAPolicy) -> None:
    likely = speaking.speaker.probabilities(None, "push", ("a", "b"))
    assert set(likely) == {"a", "b"}
    assert sum(likely.values()) == pytest.approx(1)
    with pytest.raises(UserError, match=r"'push the red cube' is \d+ tokens"):
        speaking.speaker.probabilities(None, "push", ("a", "push the red cube"))


def test_a_conversation_remembers_its_turns(speaking: OpenVLAPolicy) -> None:
    image = pictures()[0]
    talk = speaking.chat(image)
    first = talk.say("push", **SHORT)
    second = talk.say("lift", **SHORT)
    assert first == speaking.generate(image, "In: push\nOut:", **SHORT)
    told = f"In: push\nOut: {first or ' '}</s>In: lift\nOut:"
    assert second == speaking.generate(image, told, **SHORT)


def test_training_goes_on_afterwards_and_attention_is_untouched(speaking: OpenVLAPolicy) -> None:
    model: Any = speaking.module
    before = model.language_model.config._attn_implementation
    speaking.module.train()
    speaking.generate(None, "push", **SHORT)
    assert model.language_model.training
    assert model.language_model.config._attn_implementation == before


def test_pictures_and_prompts_go_in_pairs(speaking: OpenVLAPolicy) -> None:
    with pytest.raises(UserError, match="2 pictures and 1 prompts"):
        speaking.speaker.generate(pictures()[:2], ["push"])
    with pytest.raises(UserError, match="str was given"):
        speaking.generate("photo.png", "push")


@pytest.mark.parametrize("training", [True, False])
def test_speaking_leaves_the_training_mode_as_it_was(speaking: OpenVLAPolicy, training: bool) -> None:
    speaking.module.train(training)
    speaking.generate(None, "a", **SHORT)
    speaking.speaker.probabilities(None, "push", ("a", "b"))
    assert {module.training for module in speaking.module.modules()} == {training}
    with pytest.raises(TypeError):
        speaking.generate(None, "a", max_new_tokens="many")
    assert {module.training for module in speaking.module.modules()} == {training}
