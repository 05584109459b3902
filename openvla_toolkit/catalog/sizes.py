"""Exact sizes of models, counted from the tables without making them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from openvla_toolkit.catalog.backbones import language_entry, vision_entry
from openvla_toolkit.catalog.tables import table

__all__ = ["language_parameters", "model_parameters", "projector_parameters", "vision_parameters"]


def model_parameters(*, vision_backbone: str, language_model: str, projector: str) -> int:
    """Return the number of parameters of a Prismatic model, what is never executed included.

    Raises:
        UserError: there is no such id.
    """
    width = int(language_entry(language_model).hub["hidden_size"])
    return (
        vision_parameters(vision_backbone)
        + projector_parameters(projector, vision_dim=vision_entry(vision_backbone).embed_dim, text_dim=width)
        + language_parameters(language_model)
    )


def vision_parameters(name: str) -> int:
    """Return the number of parameters of a vision backbone."""
    facts = vision_entry(name)
    towers = table("vision_backbones")["towers"]
    return sum(_tower(towers[tower], patches=facts.num_patches) for tower in facts.towers)


def language_parameters(name: str) -> int:
    """Return the number of parameters of a language model whose embeddings were resized for padding."""
    facts = language_entry(name)
    hub, rows = facts.hub, facts.tokenizer.embedding_rows
    width, inner = hub["hidden_size"], hub["intermediate_size"]
    narrow = width // hub["num_attention_heads"] * hub["num_key_value_heads"]
    if facts.family == "phi":  # biases everywhere, two linear layers, one norm per block
        block = _linear(width, 3 * width) + _linear(width, width) + _mlp(width, inner) + 2 * width
        return int(rows * width + hub["num_hidden_layers"] * block + 2 * width + _linear(width, rows))
    block = 2 * width * (width + narrow) + 3 * width * inner + 2 * width
    return int(2 * rows * width + hub["num_hidden_layers"] * block + width)


def projector_parameters(projector: str, *, vision_dim: int, text_dim: int) -> int:
    """Return the number of parameters of a projector of one, two or three layers."""
    widths = {
        "linear": (vision_dim, text_dim),
        "gelu-mlp": (vision_dim, text_dim, text_dim),
        "fused-gelu-mlp": (vision_dim, 4 * vision_dim, text_dim, text_dim),
    }[projector]
    return sum(_linear(one, other) for one, other in pairwise(widths))


def _tower(facts: dict[str, Any], *, patches: int) -> int:
    width, inner = facts["width"], int(facts["width"] * facts["mlp_ratio"])
    norm = 2 * width
    patch = 3 * facts["patch_size"] ** 2 * width + (norm if facts["norm_pre"] else width)  # CLIP: no bias
    positions = (patches + facts["positions_of_prefix"] + facts["prefix_tokens"]) * width
    scale = 2 * width if facts["layer_scale"] else 0
    attention = _linear(width, 3 * width) + _linear(width, width)
    block = attention + _mlp(width, inner) + 2 * norm + scale
    pool = attention + _mlp(width, inner) + norm + width if facts["attention_pool"] else 0
    return int(patch + positions + facts["depth"] * block + norm + pool)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _mlp(width: int, inner: int) -> int:
    return _linear(width, inner) + _linear(inner, width)
