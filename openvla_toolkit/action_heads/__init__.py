"""Built-in action heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.interfaces.action_head import ActionHeadConfig
from openvla_toolkit.interfaces.action_tokenizer import AnyActionTokenizer

if TYPE_CHECKING:
    from openvla_toolkit.action_heads.token_head import TokenHead

__all__ = ["TokensConfig"]


class TokensConfig(ActionHeadConfig):
    """OpenVLA's head: actions are words of the language model, learned and decoded one after the other."""

    name: Literal["tokens"] = "tokens"
    action_tokenizer: AnyActionTokenizer = Field(default="uniform-bins", validate_default=True)
    """The code between numbers and ids."""
    constrain: bool = True
    """Choose among action ids only, and compute no other column of the output layer; false: among all ids."""
    predict_stop: bool = True
    """Also learn the end-of-sequence id that follows the actions."""

    def architecture(self) -> TokensConfig:
        """Return what a checkpoint and its use must agree on: how ids are chosen is free."""
        return self.model_copy(update={"constrain": True})

    def build(self, *, vocabulary_size: int, end_id: int, separator_id: int | None) -> TokenHead:
        """Make the head (see ``interfaces.action_head.ActionHeadConfig``)."""
        from openvla_toolkit.action_heads.token_head import TokenHead

        return TokenHead(self, vocabulary_size=vocabulary_size, end_id=end_id, separator_id=separator_id)
