"""Text to ids in loader workers: a fast tokenizer and a few ids, without transformers or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from openvla_toolkit.core.contract import PromptRecipe
from openvla_toolkit.core.errors import DataError, UserError
from openvla_toolkit.core.types import IGNORED, Turn
from openvla_toolkit.interfaces.prompt import PromptConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["SEPARATOR", "TextCode", "TextWriter"]

SEPARATOR = "▁"
"""Llama's empty token: white space before a piece that does not carry its own."""

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCode:
    """A tokenizer as the processor needs it; can be pickled."""

    tokenizer: Tokenizer
    vocabulary_size: int
    """Ids of the text tokenizer, added special tokens not counted."""
    pad_id: int
    end_id: int
    separator_id: int | None
    length_limit: int
    """Ids of a conversation beyond this are cut off."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, *, length_limit: int) -> TextCode:
        """Read what is needed from a tokenizer of ``transformers``."""
        backend: Tokenizer = tokenizer.backend_tokenizer
        return cls(
            tokenizer=backend,
            vocabulary_size=backend.get_vocab_size(with_added_tokens=False),
            pad_id=tokenizer.pad_token_id,
            end_id=tokenizer.eos_token_id,
            separator_id=backend.token_to_id(SEPARATOR),
            length_limit=length_limit,
        )


class TextWriter:
    """Writes instructions and conversations in one prompt style."""

    def __init__(self, code: TextCode, prompt: PromptConfig, recipe: PromptRecipe) -> None:
        self._code, self._prompt, self._recipe = code, prompt, recipe
        self._known: dict[str, NDArray[np.int64]] = {}

    def instruction(self, instruction: str) -> NDArray[np.int64]:
        """Return the ids of the question for an action, beginning-of-sequence token included.

        Raises:
            UserError: the instruction is no text.
        """
        if not isinstance(instruction, str):
            raise UserError(f"an instruction must be a str; {type(instruction).__name__} was given.")
        if (ids := self._known.get(instruction)) is None:
            text = instruction.lower() if self._recipe.lower else instruction
            style = self._prompt.build()
            style.add_turn("human", self._recipe.question.replace("{instruction}", text))
            ids = self._encode(style.text(), first=True)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[instruction] = ids
        return ids

    def conversation(self, turns: Sequence[Turn]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return input ids [L] and labels [L] of a conversation; only what the model says is learned.

        Every turn is tokenised by itself (the original's ``FinetuneDataset``).

        Raises:
            DataError: there is no turn, or the speakers do not alternate.
        """
        if not turns:
            raise DataError("the conversation has no turn.")
        style = self._prompt.build()
        ids, labels = [], []
        for number, turn in enumerate(turns):
            if turn.speaker not in ("human", "gpt"):
                raise DataError(
                    f"turn {number + 1} is said by '{turn.speaker}'; 'human' and 'gpt' can speak."
                )
            text = style.add_turn(turn.speaker, turn.text)  # type: ignore[arg-type]
            piece = self._encode(text.rstrip(), first=number == 0)
            ids.append(piece)
            labels.append(piece if turn.speaker == "gpt" else np.full_like(piece, IGNORED))
        limit = self._code.length_limit
        return np.concatenate(ids)[:limit], np.concatenate(labels)[:limit]

    def _encode(self, text: str, *, first: bool) -> NDArray[np.int64]:
        return np.array(self._code.tokenizer.encode(text, add_special_tokens=first).ids, dtype=np.int64)
