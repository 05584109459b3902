"""How the turns of a conversation are written for a language model, as Prismatic writes them."""

from __future__ import annotations

from typing import Literal

from openvla_toolkit.core.errors import DataError

__all__ = ["LLAMA2_SYSTEM", "PHI_END", "VICUNA_SYSTEM", "StyledPrompt"]

LLAMA2_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
PHI_END = "<|endoftext|>"

_START = "<s>"


class StyledPrompt:
    """One conversation, written by fixed wrappings.

    Args:
        human: wrapping of what a person says; ``{message}`` stands for it.
        gpt: wrapping of what the model answers; ``end`` follows it.
        end: text of the end-of-sequence token.
        before_message: stands before the first message, inside its wrapping.
        before_turn: stands before the first turn, outside its wrapping.
    """

    def __init__(
        self,
        *,
        human: str,
        gpt: str = "{message}",
        end: str = "</s>",
        before_message: str = "",
        before_turn: str = "",
    ) -> None:
        self._human, self._gpt = human, gpt + end
        self._before_message, self._before_turn = before_message, before_turn
        self._turns: list[str] = []

    def add_turn(self, speaker: Literal["human", "gpt"], message: str) -> str:
        """Append a turn and return its text; ``<image>`` marks are removed, white space around it too.

        Raises:
            DataError: the speakers do not alternate, a person first.
        """
        expected = "gpt" if len(self._turns) % 2 else "human"
        if speaker != expected:
            raise DataError(f"turn {len(self._turns) + 1} is said by '{speaker}'; '{expected}' is expected.")
        message = message.replace("<image>", "").strip()
        if speaker == "gpt":
            turn = self._gpt.replace("{message}", message or " ")
        elif self._turns:
            turn = self._human.replace("{message}", message)
        else:
            turn = self._before_turn + self._human.replace("{message}", self._before_message + message)
        self._turns.append(turn)
        return turn

    def text(self) -> str:
        """Return the conversation so far, without a leading ``<s>`` and trailing white space."""
        return "".join(self._turns).removeprefix(_START).rstrip()
