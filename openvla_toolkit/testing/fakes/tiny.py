"""The smallest real policy: a Vision Transformer and a Llama, two blocks of width 32 each."""

from __future__ import annotations

from typing import Any

from openvla_toolkit.core.registry import by_name
from openvla_toolkit.interfaces.policy import PolicyConfig

__all__ = ["tiny_policy"]


def tiny_policy(**settings: Any) -> PolicyConfig:
    """Return settings of a whole vision-language-action policy that takes a step in milliseconds.

    Two views of 32 pixels, the offline tokenizer, 256 action bins; ``settings`` replace its own.
    """
    chosen: dict[str, Any] = {
        "name": "openvla",
        "vision_backbone": {
            "name": "timm",
            "models": ["vit_tiny_patch16_224"],
            "image_size": 32,
            "options": {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2},
        },
        "language_model": {
            "name": "causal-lm",
            "model_type": "llama",
            "settings": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
            },
            "tokenizer": "tabletop",
        },
        "cameras": ["primary", "wrist"],
    }
    policy = by_name("policy")(chosen | settings)
    assert isinstance(policy, PolicyConfig)
    return policy
