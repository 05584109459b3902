"""Names of tensors: those of Hugging Face checkpoints (the toolkit's own) and those of training runs.

============================================  ========================================================
Hugging Face                                  training run: module, key
============================================  ========================================================
``vision_backbone.featurizer.X``              ``vision_backbone``, ``featurizer.X`` or ``dino_featurizer.X``
``vision_backbone.fused_featurizer.X``        the same, ``siglip_featurizer.X`` or ``clip_featurizer.X``
``...ls1.scale_factor``                       ``...ls1.gamma``
``projector.fc1``, ``fc2``, ``fc3``           ``projector``, ``projector.0``, ``.2``, ``.4``
``projector.fc1`` (one layer alone)           ``projector``, ``projector.weight``, ``projector.bias``
``language_model.X``                          ``llm_backbone``, ``llm.X``
============================================  ========================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from openvla_toolkit.core.errors import CheckpointError

__all__ = ["MODULES", "computed", "from_native", "spelled", "to_native"]

MODULES = ("vision_backbone", "llm_backbone", "projector")
"""The keys under ``model`` in a training run's checkpoint."""

_FIRST = ("featurizer", "dino_featurizer")
_SECOND = ("fused_featurizer", "siglip_featurizer", "clip_featurizer")
_NATIVE_LAYER = re.compile(r"projector\.(?:(\d+)\.)?(weight|bias)")
_LAYER = re.compile(r"projector\.fc(\d)\.(weight|bias)")


def from_native(module: str, key: str) -> str:
    """Return the Hugging Face name of a training run's tensor.

    Raises:
        CheckpointError: the originals have no such name.
    """
    head, _, rest = key.partition(".")
    if module == "llm_backbone" and head == "llm" and rest:
        return f"language_model.{rest}"
    if module == "vision_backbone" and rest and head in _FIRST:
        return spelled(f"vision_backbone.featurizer.{rest}")
    if module == "vision_backbone" and rest and head in _SECOND:
        return spelled(f"vision_backbone.fused_featurizer.{rest}")
    if module == "projector" and (match := _NATIVE_LAYER.fullmatch(key)):
        return f"projector.fc{int(match[1] or 0) // 2 + 1}.{match[2]}"
    raise CheckpointError(f"'{key}' in '{module}' is no name of a Prismatic model's tensor.")


def to_native(name: str, *, towers: Sequence[str], layers: int) -> tuple[str, str]:
    """Return module and key of a tensor in a training run.

    Args:
        towers: what the towers are called there (``VisionEntry.native_prefixes``).
        layers: how many layers the projector has.

    Raises:
        CheckpointError: the originals have no such tensor.
    """
    head, _, rest = name.partition(".")
    if head == "language_model":
        return "llm_backbone", f"llm.{rest}"
    if match := _LAYER.fullmatch(name):
        number = "" if layers == 1 else f"{2 * (int(match[1]) - 1)}."
        return "projector", f"projector.{number}{match[2]}"
    tower, _, rest = rest.partition(".")
    if head == "vision_backbone" and tower in ("featurizer", "fused_featurizer"):
        own = towers[0 if tower == "featurizer" else 1]
        return "vision_backbone", f"{own}.{re.sub(r'[.]scale_factor$', '.gamma', rest)}"
    raise CheckpointError(f"'{name}' is no tensor of a Prismatic model; a training run has no place for it.")


def spelled(name: str) -> str:
    """Return a Hugging Face name with LayerScale's factor under the name that published checkpoints use."""
    return re.sub(r"[.]gamma$", ".scale_factor", name)


def computed(name: str) -> bool:
    """Tell whether a tensor of old checkpoints is computed nowadays and not to be read."""
    return name.endswith("rotary_emb.inv_freq")
