"""Prompt styles agree string for string with what Prismatic was recorded to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.interfaces.prompt import PromptConfig
from openvla_toolkit.prompts import (
    Llama2ChatConfig,
    MistralInstructConfig,
    PhiConfig,
    PureConfig,
    VicunaConfig,
)

RECORDED = Path(__file__).parent.parent / "golden" / "prompts" / "prompt_builders.json"
CASES = json.loads(RECORDED.read_text(encoding="utf-8"))["cases"]
WITH_SYSTEM: dict[str, type[Llama2ChatConfig | VicunaConfig]] = {
    "llama2_chat": Llama2ChatConfig,
    "vicuna_v15": VicunaConfig,
}
WITHOUT_SYSTEM: dict[str, type[PureConfig | MistralInstructConfig | PhiConfig]] = {
    "pure": PureConfig,
    "mistral_instruct": MistralInstructConfig,
    "phi": PhiConfig,
}


def config_of(case: dict[str, Any]) -> PromptConfig:
    if case["builder"] in WITH_SYSTEM:
        return WITH_SYSTEM[case["builder"]](system=case["system_prompt"])
    return WITHOUT_SYSTEM[case["builder"]]()  # the original takes a system prompt here and ignores it


@pytest.mark.parametrize("number", range(len(CASES)))
def test_every_turn_is_written_as_recorded(number: int) -> None:
    case = CASES[number]
    prompt = config_of(case).build()
    for position, message in enumerate(case["messages"]):
        turn = prompt.add_turn("gpt" if position % 2 else "human", message)
        assert turn == case["add_turn_returns"][position]
        assert prompt.text() == case["prompt_after_each_turn"][position]


def test_every_style_is_covered() -> None:
    assert {case["builder"] for case in CASES} == {*WITH_SYSTEM, *WITHOUT_SYSTEM}


def test_speakers_alternate_a_person_first() -> None:
    prompt = PureConfig().build()
    with pytest.raises(DataError, match="turn 1 is said by 'gpt'; 'human' is expected"):
        prompt.add_turn("gpt", "hello")
    prompt.add_turn("human", "hello")
    with pytest.raises(DataError, match="turn 2 is said by 'human'"):
        prompt.add_turn("human", "hello?")
