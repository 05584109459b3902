"""Conversations to ids, labels and pixels, as instruction tuning learns them."""

from __future__ import annotations

from typing import Any

import pytest

from openvla_toolkit.core.contract import ImageRecipe, PromptRecipe
from openvla_toolkit.core.types import Turn
from openvla_toolkit.policies.prismatic.images import Pixels
from openvla_toolkit.policies.prismatic.text import TextCode, TextWriter
from tests.conformance import kit
from tests.conformance.originals import kit_tokenizer, prompt_config, sha256

EXPECTED: dict[str, Any] = kit.recorded("vlm_data/expected.json") or {}
BUILDERS = sorted(EXPECTED.get("finetune", {}))
SHOWN = ImageRecipe(strategy="resize-naive", size=224, means=((0.5,) * 3,), stds=((0.5,) * 3,))
"""SigLIP's, which the kit used."""

CONVERSATIONS: list[dict[str, Any]] = list(kit.recorded("vlm_data/finetune.json") or ())


def style(builder: str) -> str:
    """Return the style that a name of the kit (``phi_builder_with_llama_tokenizer``) means."""
    return builder.split("_builder")[0]


def code() -> TextCode:
    return TextCode.of(kit_tokenizer(), length_limit=EXPECTED["tokenizer_model_max_length"])


def check_picture(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    if expected["pixel_values_sha256"] is None:
        assert "image" not in entry
        return
    picture = kit.picture(f"vlm_data/images/{entry['image']}")
    assert sha256(Pixels(SHOWN)(picture, camera="primary")) == expected["pixel_values_sha256"]


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)))
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_conversation(builder: str, number: int) -> None:
    entry, expected = CONVERSATIONS[number], EXPECTED["finetune"][builder]["items"][number]
    turns = [Turn(speaker=turn["from"], text=turn["value"]) for turn in entry["conversations"]]
    ids, labels = TextWriter(code(), prompt_config(style(builder)), PromptRecipe()).conversation(turns)
    assert ids.tolist() == expected["input_ids"]
    assert labels.tolist() == expected["labels"]
    check_picture(entry, expected)
