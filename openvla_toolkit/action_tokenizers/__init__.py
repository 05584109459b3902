"""Built-in action tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from openvla_toolkit.interfaces.action_tokenizer import ActionTokenizerConfig

if TYPE_CHECKING:
    from openvla_toolkit.action_tokenizers.uniform_bins import UniformBins

__all__ = ["UniformBinsConfig"]


class UniformBinsConfig(ActionTokenizerConfig):
    """OpenVLA's code: equal bins, written with the last ids of the vocabulary."""

    name: Literal["uniform-bins"] = "uniform-bins"
    bins: int = Field(default=256, ge=2)
    """Ids in use; the range is cut into one interval less."""
    low: float = -1.0
    """Lowest action that can be told apart."""
    high: float = 1.0
    """Highest action that can be told apart."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> UniformBinsConfig:
        if self.low >= self.high:
            raise ValueError(f"'low' ({self.low}) must lie below 'high' ({self.high}).")
        return self

    def build(self, *, vocabulary_size: int) -> UniformBins:
        """Make the code for a text tokenizer of so many ids.

        Raises:
            UserError: the vocabulary has fewer ids than there are bins.
        """
        from openvla_toolkit.action_tokenizers.uniform_bins import UniformBins

        return UniformBins(bins=self.bins, low=self.low, high=self.high, vocabulary_size=vocabulary_size)
