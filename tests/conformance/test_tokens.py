"""Texts and actions to ids: the processor's batches, and what policies learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openvla_toolkit.action_heads import TokensConfig
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.policies.prismatic.hugging_face.processing import (
    PrismaticImageProcessor,
    PrismaticProcessor,
)
from openvla_toolkit.policies.prismatic.text import TextCode
from tests.conformance import kit
from tests.conformance.originals import QUESTION, asked, kit_tokenizer

PLACE = "prompts/processor_ids.json"
CASES = kit.cases(PLACE)
RECORDED: dict[str, Any] = kit.recorded(PLACE) or {}
LEARNED = kit.cases("rlds/expected/batch_transform.json")
WORDINGS = [entry["prompt"] for entry in [kit.recorded("rlds/expected/batch_transform.json")] if entry]
STYLES = {"pure": ("pure", True), "pure_no_stop": ("pure", False), "vicuna": ("vicuna-v15", True)}
"""What the kit calls a sample -> prompt style, and whether the end is learned."""


def processor(size: int = 224) -> PrismaticProcessor:
    images = PrismaticImageProcessor(
        image_resize_strategy="resize-naive",
        input_sizes=[(3, size, size)],
        means=[(0.5, 0.5, 0.5)],
        stds=[(0.5, 0.5, 0.5)],
        interpolations=["bicubic"],
    )
    return PrismaticProcessor(images, kit_tokenizer())


def pictures(count: int) -> list[Any]:
    from PIL import Image

    return [Image.open(kit.root() / "prompts" / "image.png") for _ in range(count)]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_ids_of_a_text(number: int) -> None:
    case = CASES[number]
    made = processor()(case["text"], pictures(1)[0])
    assert made["input_ids"].tolist() == [case["input_ids"]]
    assert made["attention_mask"].tolist() == [case["attention_mask"]]
    assert sorted(made.keys()) == case["keys"]
    tokenizer = kit_tokenizer()
    assert tokenizer(case["text"], add_special_tokens=False).input_ids == case["ids_no_special"]
    assert processor().decode(case["input_ids"]) == case["decoded"]
    assert processor().batch_decode([case["input_ids"]], skip_special_tokens=True) == [
        case["decoded_skip_special"]
    ]


@pytest.mark.parametrize("name", sorted(name for name in RECORDED if name.startswith("batch_")))
def test_a_batch(name: str) -> None:
    batch = RECORDED[name]
    limit = name.rpartition("_")[2]
    how: dict[str, Any] = (
        {"padding": "max_length", "truncation": True, "max_length": int(limit)}
        if limit.isdigit()
        else {"padding": True}
    )
    size = batch["pixel_values_shape"][-1]
    made = processor(size)(batch["texts"], pictures(len(batch["texts"])), **how)
    assert made["input_ids"].tolist() == batch["input_ids"]
    assert made["attention_mask"].tolist() == batch["attention_mask"]
    assert list(made["pixel_values"].shape) == batch["pixel_values_shape"]


@pytest.mark.parametrize("name", sorted(RECORDED.keys() & {"mismatched_counts_raises"}))
def test_texts_and_pictures_are_counted(name: str) -> None:
    assert RECORDED[name].startswith("ValueError")
    with pytest.raises(UserError, match=r"2 texts and 3 pictures"):
        processor()(["one", "two"], pictures(3))


@pytest.mark.parametrize("name", sorted(RECORDED.keys() & {"pad_token", "pad_token_id", "padding_side"}))
def test_padding(name: str) -> None:
    assert getattr(kit_tokenizer(), name) == RECORDED[name]


@pytest.mark.parametrize("name", sorted(RECORDED.keys() & {"model_input_names"}))
def test_names_of_inputs(name: str) -> None:
    assert processor().model_input_names == RECORDED[name]


@pytest.mark.parametrize(
    ("number", "sample"),
    [(number, sample) for number, case in enumerate(LEARNED) for sample in STYLES if sample in case],
)
def test_what_a_policy_learns(number: int, sample: str) -> None:
    case = LEARNED[number]
    style, stop = STYLES[sample]
    code = TextCode.of(kit_tokenizer(), length_limit=2048)
    head = TokensConfig(predict_stop=stop).build(
        vocabulary_size=code.vocabulary_size, end_id=code.end_id, separator_id=code.separator_id
    )
    prompt = np.array(kit_tokenizer()(asked(style, case["language"])).input_ids)
    ids, labels = head.targets(prompt, np.array([case["action"]], dtype=np.float32))
    assert ids.tolist() == case[sample]["input_ids"]
    assert labels.tolist() == case[sample]["labels"]


@pytest.mark.parametrize("wording", WORDINGS)
def test_the_question(wording: str) -> None:
    assert wording == QUESTION.replace("{instruction}", "{lower-cased language}")
