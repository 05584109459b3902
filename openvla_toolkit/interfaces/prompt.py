"""Kind ``prompt``: how the turns of a conversation are written for a language model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

__all__ = ["AnyPrompt", "PromptBuilder", "PromptConfig"]


class PromptBuilder(Protocol):
    """One conversation being written down; the tokenizer adds the beginning-of-sequence token."""

    def add_turn(self, speaker: Literal["human", "gpt"], message: str) -> str:
        """Append a turn and return its text with the style's wrapping; speakers alternate, human first."""
        ...

    def text(self) -> str:
        """Return the conversation so far, trailing white space removed."""
        ...


class PromptConfig(ComponentConfig):
    """Settings of one prompt style."""

    kind: ClassVar[str] = "prompt"

    system: str | None = None
    """System prompt; None takes the style's own."""

    @abstractmethod
    def build(self) -> PromptBuilder:
        """Begin an empty conversation."""


AnyPrompt: TypeAlias = Annotated[SerializeAsAny[PromptConfig], BeforeValidator(by_name("prompt"))]
