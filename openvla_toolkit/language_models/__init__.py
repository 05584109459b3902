"""Built-in language models: any causal language model of ``transformers``, and those of Prismatic by id."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from openvla_toolkit.catalog.backbones import language_entry, language_settings
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.interfaces.language_model import LanguageModel, LanguageModelConfig

__all__ = ["CausalLMConfig", "PrismaticLanguageConfig"]

_FROM_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")


class CausalLMConfig(LanguageModelConfig):
    """A causal language model: pretrained weights, or an architecture with random ones."""

    name: Literal["causal-lm"] = "causal-lm"
    weights: str | None = None
    """Folder or hub id of a pretrained model; its tokenizer comes with it unless ``tokenizer`` is given."""
    model_type: str | None = None
    """Architecture as ``transformers`` calls it (``llama``, ``qwen2``), for random weights."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of that architecture (``hidden_size``, ...); what the tokenizer decides is filled in."""
    tokenizer: str | None = None
    """A shipped name (``tabletop``), a folder or a hub id."""
    pad_token: str = "<PAD>"
    """Added to a tokenizer that has no padding token of its own."""
    pad_to_multiple_of: int = Field(default=64, gt=0)
    """Embedding rows are rounded up to a multiple of this."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Implementation of attention."""
    init_std: float | None = Field(default=None, gt=0)
    """Standard deviation of fresh weights; None keeps the architecture's own."""
    embedding_std: float | None = Field(default=None, gt=0)
    """Standard deviation of fresh embeddings; None takes ``init_std``."""
    output_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the fresh output layer; None takes ``init_std``."""

    @model_validator(mode="after")
    def _one_source(self) -> CausalLMConfig:
        if (self.weights is None) == (self.model_type is None):
            raise ValueError("give either 'weights' (a pretrained model) or 'model_type' (random weights).")
        if self.weights is not None and (
            self.settings or self.init_std or self.embedding_std or self.output_std
        ):
            raise ValueError(
                "'settings' and initialisation belong to 'model_type'; 'weights' bring their own."
            )
        if self.model_type is not None and self.tokenizer is None:
            raise ValueError(
                "random weights need a 'tokenizer': a shipped name (tabletop), a folder or a hub id."
            )
        if clash := [key for key in _FROM_TOKENIZER if key in self.settings]:
            raise ValueError(f"'settings.{clash[0]}' comes from the tokenizer; leave it out.")
        return self

    def architecture(self) -> CausalLMConfig:
        """Return settings without initialisation and the choice of attention."""
        return self.model_copy(
            update={"attention": "sdpa", "init_std": None, "embedding_std": None, "output_std": None}
        )

    def build(self) -> LanguageModel:
        """Make module and tokenizer.

        Raises:
            UserError: ``transformers`` has no such architecture or it takes no such setting.
            MissingFile: there are no such weights or tokenizer.
        """
        from openvla_toolkit.language_models.causal_lm import build

        return build(self)


class PrismaticLanguageConfig(LanguageModelConfig):
    """A language model of the Prismatic models, by id (``llama2-7b-pure``)."""

    name: Literal["prismatic-lm"] = "prismatic-lm"
    id: str
    """One of the nine; ``openvla models describe`` says which model has which."""
    pretrained: bool = False
    """Fetch the published weights when the policy is made from scratch (Llama-2's need ``hf auth login``)."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the architecture that deviate, for trials with small models; not with ``pretrained``."""
    tokenizer: str | None = None
    """A shipped name, a folder or a hub id; None takes the id's own from the hub."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Implementation of attention."""

    @field_validator("id")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            return language_entry(value).id
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _weights_have_a_size(self) -> PrismaticLanguageConfig:
        if self.pretrained and self.settings:
            raise ValueError("'settings' deviate from the published model; leave them out or 'pretrained'.")
        return self

    def plain(self) -> CausalLMConfig:
        """Return the same model as settings of the component ``causal-lm``."""
        if not self.pretrained:
            return self.architecture().model_copy(update={"attention": self.attention})
        facts = language_entry(self.id)
        return CausalLMConfig(
            weights=facts.hub_id,
            tokenizer=self.tokenizer,
            pad_token=facts.tokenizer.pad,
            attention=self.attention,
        )

    def architecture(self) -> CausalLMConfig:
        """Return settings without weights to fetch and the choice of attention."""
        known = language_settings(self.id)
        given = {} if self.tokenizer is None else {"tokenizer": self.tokenizer}
        return CausalLMConfig(**{**known, "settings": {**known["settings"], **self.settings}, **given})

    def build(self) -> LanguageModel:
        """Make module and tokenizer.

        Raises:
            UserError: the architecture takes no such setting.
            MissingFile: weights or tokenizer cannot be had.
        """
        return self.plain().build()
