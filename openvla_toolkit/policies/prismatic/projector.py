"""From patch features to the language model's embeddings."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

__all__ = ["Projector", "ProjectorName"]

ProjectorName = Literal["linear", "gelu-mlp", "fused-gelu-mlp"]

_WIDENING = 4


class Projector(nn.Module):
    """Linear layers ``fc1``, ``fc2``, ... with exact GELU between them.

    ``linear`` is one layer, ``gelu-mlp`` two, ``fused-gelu-mlp`` three, the first of which widens fused
    features fourfold. Parameter names are those of published OpenVLA checkpoints.

    Args:
        init_std: standard deviation of fresh weights, with zero biases; None keeps torch's initialisation.
    """

    def __init__(
        self, name: ProjectorName, *, vision_dim: int, text_dim: int, init_std: float | None = None
    ) -> None:
        super().__init__()
        widths = {
            "linear": [vision_dim, text_dim],
            "gelu-mlp": [vision_dim, text_dim, text_dim],
            "fused-gelu-mlp": [vision_dim, _WIDENING * vision_dim, text_dim, text_dim],
        }[name]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            layer = nn.Linear(before, after)
            if init_std is not None:
                nn.init.normal_(layer.weight, std=init_std)
                nn.init.zeros_(layer.bias)
            self.add_module(f"fc{number}", layer)
        self.activation = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        """Map features [..., vision_dim] to embeddings [..., text_dim]."""
        first, *others = (layer for name, layer in self.named_children() if name.startswith("fc"))
        embeddings: Tensor = first(features)
        for layer in others:
            embeddings = layer(self.activation(embeddings))
        return embeddings
