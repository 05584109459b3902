"""Prompt styles, string for string."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.prompts.styles import StyledPrompt
from tests.conformance import kit
from tests.conformance.originals import prompt_config

PLACE = "prompts/prompt_builders.json"
CASES = kit.cases(PLACE)
NEXT = "next user message"
"""What the kit puts into its potential prompts."""


def begun(case: dict[str, Any]) -> StyledPrompt:
    prompt = prompt_config(case["builder"], system=case["system_prompt"]).build()
    assert isinstance(prompt, StyledPrompt)
    return prompt


def with_next(prompt: StyledPrompt) -> str:
    """Return the prompt as it would read with one more question."""
    prompt = copy.deepcopy(prompt)
    prompt.add_turn("human", NEXT)
    return prompt.text()


def turns(case: dict[str, Any]) -> list[tuple[StyledPrompt, str]]:
    """Return the conversation after each turn, and what adding the turn returned."""
    prompt, after = begun(case), []
    for number, message in enumerate(case["messages"]):
        written = prompt.add_turn("gpt" if number % 2 else "human", message)
        after.append((copy.deepcopy(prompt), written))
    return after


@pytest.mark.parametrize("number", range(len(CASES)))
def test_turns_and_prompts(number: int) -> None:
    case = CASES[number]
    assert [written for _, written in turns(case)] == case["add_turn_returns"]
    assert [prompt.text() for prompt, _ in turns(case)] == case["prompt_after_each_turn"]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_potential_prompts(number: int) -> None:
    case = CASES[number]
    later = case["potential_prompt_after_each_turn"]
    for asked, ((prompt, _), potential) in enumerate(zip(turns(case), later, strict=True)):
        if asked % 2:  # after an answer; the original also writes two questions in a row, which no chat needs
            assert with_next(prompt) == potential
        else:
            assert potential.startswith(prompt.text())
    # Of the first question the original leaves out what stands before it (system prompt, Phi's first token).
    assert with_next(begun(case)).endswith(case["potential_prompt_at_start"].split(NEXT)[1])


@pytest.mark.parametrize("builder", sorted({case["builder"] for case in CASES}))
def test_an_answer_cannot_come_first(builder: str) -> None:
    assert kit.recorded(PLACE)["gpt_first_raises"] == "AssertionError"
    with pytest.raises(DataError, match="turn 1 is said by 'gpt'; 'human' is expected"):
        prompt_config(builder).build().add_turn("gpt", "hello")
