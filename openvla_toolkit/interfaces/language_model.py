"""Kind ``language_model``: embeddings to next-token logits, with its tokenizer."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["AnyLanguageModel", "LanguageModel", "LanguageModelConfig"]


class LanguageModel(NamedTuple):
    """A ``transformers`` causal language model and the tokenizer it was trained with."""

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


class LanguageModelConfig(ComponentConfig):
    """Settings of one language model."""

    kind: ClassVar[str] = "language_model"

    def architecture(self) -> LanguageModelConfig:
        """Return what two ends must agree on: settings without initialisation and execution."""
        return self

    @abstractmethod
    def build(self) -> LanguageModel:
        """Make module and tokenizer; weights are random unless the settings name some."""


AnyLanguageModel: TypeAlias = Annotated[
    SerializeAsAny[LanguageModelConfig], BeforeValidator(by_name("language_model"))
]
