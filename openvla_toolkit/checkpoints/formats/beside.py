"""What lies beside a checkpoint: a tokenizer, and sizes that differ from the published architecture's.

Training runs of the original keep neither: their tokenizer comes from the hub, and sizes from an id. So that
small models can be tested, a file ``arch.json`` about the same backbone states other sizes (in the folder
itself, ``model/X`` above ``model/X/hf`` and ``model/X/native/RUN``); the ``tokenizer`` folder beside
``model`` then belongs to it. What lies outside the checkpoint and is taken is logged.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from openvla_toolkit.checkpoints.formats.content import read_json

__all__ = ["sizes_beside", "tokenizer_beside", "with_tower_sizes"]

_log = logging.getLogger(__name__)

_LEVELS = 3
"""A run lies two folders below ``arch.json``."""
_TOWERS = ("featurizer", "fused_featurizer")
_TOWER_SIZES = ("embed_dim", "depth", "num_heads")
_TEXT_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "rope_theta",
)


def tokenizer_beside(run: Path, *, vision_id: str | None) -> str | None:
    """Return the folder of a training run's tokenizer: its own, or that of its ``arch.json``; None: neither.

    A ``tokenizer`` folder that merely lies somewhere above may belong to any other model and is not taken.
    """
    own = [run, run / "tokenizer"]
    arch = _arch(run, vision_id=vision_id)
    if arch is not None:
        own += [folder / "tokenizer" for folder in arch.parents[:3:2]]
    found = next((folder for folder in own if (folder / "tokenizer.json").is_file()), None)
    if found is None:
        return None
    _tell(found / "tokenizer.json", run)
    return str(found)


def sizes_beside(folder: Path, *, vision_id: str | None) -> dict[str, Any]:
    """Return ``towers`` (one mapping each) and ``text`` sizes; empty where no file is about this backbone."""
    place = _arch(folder, vision_id=vision_id)
    if place is None:
        return {}
    _tell(place, folder)
    data = read_json(place)
    towers = [data["featurizer"][name] for name in _TOWERS if name in data["featurizer"]]
    sizes = [{key: tower[key] for key in _TOWER_SIZES if key in tower} for tower in towers]
    text = {key: value for key, value in data.get("llm", {}).items() if key in _TEXT_SIZES}
    if "num_attention_heads" in text:
        text.setdefault("num_key_value_heads", text["num_attention_heads"])
    return {"towers": sizes, "text": text}


def with_tower_sizes(settings: dict[str, Any], towers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return settings of the component ``timm`` with other sizes for each of its towers."""
    keys = dict.fromkeys(key for tower in towers for key in tower)
    sizes = {key: [tower.get(key) for tower in towers] for key in keys}
    return {**settings, "options": {**settings.get("options", {}), **sizes}}


def _arch(folder: Path, *, vision_id: str | None) -> Path | None:
    """Return the nearest ``arch.json`` if it is about this vision backbone."""
    here = folder.absolute()
    places = (place / "arch.json" for place in [here, *here.parents][:_LEVELS])
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        return None
    data = read_json(place)
    same = data.get("vision_backbone_id") == vision_id and isinstance(data.get("featurizer"), dict)
    return place if same else None


@cache
def _tell(file: Path, folder: Path) -> None:
    if folder.absolute() not in file.absolute().parents:
        _log.warning("%s: %s, outside of it, is taken into account.", folder, file)
