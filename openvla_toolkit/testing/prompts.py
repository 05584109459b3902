"""Checks of prompt styles."""

from __future__ import annotations

from openvla_toolkit.interfaces.prompt import PromptConfig
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_prompt"]


def check_prompt(config: PromptConfig) -> None:
    """Check a prompt style by a conversation of four turns.

    Checked: the settings; that every message is written down, in order; that a turn only appends; that
    ``text`` ends without white space; that two conversations do not share anything.
    """
    check_settings(config, PromptConfig)
    builder, other = config.build(), config.build()
    messages = ("what is seen?", "a cup.", "and where?", "on a table.")
    before = ""
    for position, message in enumerate(messages):
        turn = builder.add_turn("gpt" if position % 2 else "human", message)
        expect(message in turn, config, expected=f"the turn to contain '{message}'", found=repr(turn))
        text = builder.text()
        expected = f"a turn to be appended to {before!r}"
        expect(
            text.startswith(before) and len(text) > len(before), config, expected=expected, found=repr(text)
        )
        expect(
            text == text.rstrip(), config, expected="text() without trailing white space", found=repr(text)
        )
        before = text
    places = [before.find(message) for message in messages]
    expect(
        places == sorted(places) and -1 not in places,
        config,
        expected="all messages in order",
        found=repr(before),
    )
    other.add_turn("human", "something else")
    alone = other.text()
    expect(messages[0] not in alone, config, expected="a new conversation to begin empty", found=repr(alone))
