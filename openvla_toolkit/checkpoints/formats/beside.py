"""What lies beside a checkpoint: a tokenizer, and sizes that differ from the published architecture's.

Training runs of the original keep neither: their tokenizer comes from the hub, and sizes from an id. A
``tokenizer`` folder, or a file ``arch.json``, beside the checkpoint or up to four folders above, takes
precedence; so small models of the same layout can be tested, and runs be used without the hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openvla_toolkit.checkpoints.formats.content import read_json

__all__ = ["sizes_beside", "tokenizer_beside", "with_tower_sizes"]

_LEVELS = 5
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


def tokenizer_beside(folder: Path) -> str | None:
    """Return the folder of the tokenizer: the checkpoint's own, or ``tokenizer`` beside it."""
    if (folder / "tokenizer.json").is_file():
        return str(folder)
    found = _nearest(folder, "tokenizer/tokenizer.json")
    return None if found is None else str(found.parent)


def sizes_beside(folder: Path, *, vision_id: str | None) -> dict[str, Any]:
    """Return ``towers`` (one mapping each) and ``text`` sizes; empty where no file is about this backbone."""
    place = _nearest(folder, "arch.json")
    if place is None:
        return {}
    data = read_json(place)
    if data.get("vision_backbone_id") != vision_id or not isinstance(data.get("featurizer"), dict):
        return {}
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


def _nearest(folder: Path, name: str) -> Path | None:
    here = folder.absolute()
    places = (place / name for place in [here, *here.parents][:_LEVELS])
    return next((place for place in places if place.is_file()), None)
