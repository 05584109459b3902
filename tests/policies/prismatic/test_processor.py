"""Samples to arrays: prompts, conversations, padding, and no torch in loader workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.action_tokenizers import UniformBinsConfig
from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.types import IGNORED, ConversationSample, Observation, Sample, Turn
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

SEPARATOR, END, PAD = 259, 2, 1300


def test_training_ids_are_the_acting_ids_then_actions_then_the_end(
    policy: OpenVLAPolicy, observations: list[Observation], samples: list[Sample]
) -> None:
    code = UniformBinsConfig().build(vocabulary_size=1300)
    for observation, sample in zip(observations, samples, strict=True):
        asked = policy.processor.encode_observation(observation)
        learned = policy.processor.encode(sample)
        answer = [*code.encode(sample.actions)[0], END]
        assert learned["input_ids"].tolist() == [*asked["input_ids"], *answer]
        assert learned["labels"].tolist() == [IGNORED] * len(asked["input_ids"]) + answer
        np.testing.assert_array_equal(learned["pixel_values"], asked["pixel_values"])


def test_the_instruction_is_put_as_the_question_in_lower_case(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    ids = policy.processor.encode_observation(observations[2])["input_ids"]
    assert (ids[0], ids[-1]) == (1, SEPARATOR)
    assert policy.tokenizer.decode(ids[1:-1]) == (
        "In: What action should the robot take to put the blue ball on the zebra-striped plate, please?\nOut:"
    )


def test_views_are_stacked_in_the_contract_s_order(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    shown = observations[0]
    pixels = policy.processor.encode_observation(shown)["pixel_values"]
    assert pixels.shape == (6, 32, 32)
    for block, camera in zip(pixels.reshape(2, 3, 32, 32), ("primary", "wrist"), strict=True):
        expected: Any = (shown.images[camera].transpose(2, 0, 1) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(np.asarray(block, dtype=np.float32), expected, atol=1e-6)


def test_only_what_the_model_says_is_learned_in_a_conversation(policy: OpenVLAPolicy) -> None:
    turns = [
        Turn("human", "<image>\nwhere is the red cube?"),
        Turn("gpt", "left "),
        Turn("human", "how many?"),
        Turn("gpt", "three"),
    ]
    item = policy.processor.encode(ConversationSample(images={}, turns=turns, dataset="talk"))
    text = policy.tokenizer.decode(item["input_ids"])
    assert text == "<s> In: where is the red cube?\nOut: left</s> In: how many?\nOut: three</s>"
    learned = item["input_ids"][item["labels"] != IGNORED]
    assert policy.tokenizer.convert_ids_to_tokens(learned) == ["▁left", "</s>", "▁three", "</s>"]
    assert not item["is_action"]


def test_long_conversations_are_cut(make_policy) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(max_tokens=7)
    turns = [Turn("human", "where is the red cube?"), Turn("gpt", "left")]
    item = policy.processor.encode(ConversationSample(images={}, turns=turns, dataset="talk"))
    assert len(item["input_ids"]) == len(item["labels"]) == 7


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "has no turn"),
        ([Turn("gpt", "hello")], "turn 1 is said by 'gpt'"),
        ([Turn("cat", "miau")], "turn 1 is said by 'cat'; 'human' and 'gpt' can speak"),
    ],
)
def test_conversations_out_of_order_are_refused(
    policy: OpenVLAPolicy, turns: list[Turn], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        policy.processor.encode(ConversationSample(images={}, turns=turns, dataset="talk"))


def test_a_missing_camera_is_named(policy: OpenVLAPolicy, observations: list[Observation]) -> None:
    shown = observations[0]
    one = Observation(images={"primary": shown.images["primary"]}, instruction="go")
    with pytest.raises(
        ContractMismatch, match=r"no picture of camera 'wrist'.*primary, wrist, given: primary"
    ):
        policy.processor.encode_observation(one)


def test_padding_stands_on_the_side_that_was_asked_for(policy: OpenVLAPolicy, samples: list[Sample]) -> None:
    items = [policy.processor.encode(sample) for sample in samples]
    right, left = policy.processor.collate(items), policy.processor.collate(items, side="left")
    for row, item in enumerate(items):
        length = len(item["input_ids"])
        assert right["attention_mask"][row].tolist() == sorted(right["attention_mask"][row], reverse=True)
        assert right["attention_mask"][row].sum() == left["attention_mask"][row].sum() == length
        np.testing.assert_array_equal(right["input_ids"][row, :length], item["input_ids"])
        np.testing.assert_array_equal(left["input_ids"][row, -length:], item["input_ids"])
        assert (right["input_ids"][row, length:] == PAD).all()
        assert (right["labels"][row, length:] == IGNORED).all()
    assert right["is_action"].tolist() == [True] * 3
    assert right["image_rows"].tolist() == [0, 1, 2]


def test_it_works_without_torch(
    policy: OpenVLAPolicy, observations: list[Observation], tmp_path: Path
) -> None:
    (tmp_path / "work.pickle").write_bytes(pickle.dumps((policy.processor, observations)))
    code = (
        "import pickle, pathlib, sys\n"
        "processor, observations = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "items = [processor.encode_observation(one) for one in observations]\n"
        "batch = processor.collate(items, side='left')\n"
        "print(batch['input_ids'].shape, sorted({'torch', 'transformers', 'timm'} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "work.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = policy.processor.collate([policy.processor.encode_observation(one) for one in observations])
    assert done.stdout.strip() == f"{expected['input_ids'].shape} []"
