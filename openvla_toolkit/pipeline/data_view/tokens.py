"""Actions as a policy is taught them: normalised, written as a token, and read back.

Legend of shapes: T frames, D dimensions of the action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization, PromptRecipe
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.statistics import Moments, normalize, unnormalize
from openvla_toolkit.interfaces.action_tokenizer import ActionTokenizerConfig

__all__ = ["VOCABULARY", "Tokens", "tokens_of"]

VOCABULARY = 32_000
"""Ids of OpenVLA's text tokenizer, so that the ids are those that its users know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What becomes of actions."""

    normalized: NDArray[np.float32]
    """[T, D]"""
    ids: NDArray[np.int64]
    """[T, D]"""
    back: NDArray[np.float64]
    """[T, D] what the ids say, in the robot's units."""


def tokens_of(actions: NDArray[np.float32], moments: Moments) -> Tokens:
    """Encode actions [T, D] and decode them, as OpenVLA's defaults do."""
    name = PromptRecipe().action_tokenizer
    config = load("action_tokenizer", name).model_validate({"name": name})
    assert isinstance(config, ActionTokenizerConfig)
    tokenizer = config.build(vocabulary_size=VOCABULARY)
    rule = Normalization()
    normalized = normalize(actions, moments, rule)
    ids = tokenizer.encode(normalized)
    return Tokens(normalized=normalized, ids=ids, back=unnormalize(tokenizer.decode(ids), moments, rule))
