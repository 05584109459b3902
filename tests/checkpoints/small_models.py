"""Small models of every architecture that the originals have, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from openvla_toolkit.catalog.backbones import language_entry, vision_entry
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

ROW = [0.0] * 3
MOMENTS = {"mean": ROW, "std": ROW, "max": [1.0] * 3, "min": [-1.0] * 3, "q01": [-1.0] * 3, "q99": [1.0] * 3}
STATISTICS = {"toy": {"action": MOMENTS, "num_transitions": 5, "num_trajectories": 1}}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def small_policy(
    vision: str = "siglip-vit-so400m",
    language: str = "llama2-7b-pure",
    projector: str = "gelu-mlp",
    *,
    resize: str = "resize-naive",
    acting: bool = True,
) -> OpenVLAPolicy:
    """Return a seeded policy made of the originals' parts, only their sizes shrunk."""
    torch.manual_seed(0)
    towers = len(vision_entry(vision).towers)
    config = OpenVLAConfig.model_validate(
        {
            "vision_backbone": {
                "name": "prismatic",
                "id": vision,
                "resize": resize,
                "options": {"embed_dim": [16, 24][:towers], "depth": [2] * towers, "num_heads": [2] * towers},
            },
            "language_model": {
                "name": "prismatic-lm",
                "id": language,
                "settings": {**SIZES, "num_key_value_heads": 2},
                "tokenizer": "tabletop",
            },
            "projector": projector,
            "prompt": language_entry(language).prompt,
        }
    )
    entries = STATISTICS if acting else {}
    statistics = {name: Statistics.from_json(entry, place=name) for name, entry in entries.items()}
    return config.build(statistics=statistics)


def saved(folder: Path, *parts: str, **settings: Any) -> Path:
    """Write a small policy into a new folder and return it."""
    folder.mkdir(parents=True)
    small_policy(*parts, **settings).save(folder)
    return folder


def as_the_original(folder: Path) -> Path:
    """Take away what only the toolkit writes; sizes go where those of small originals are looked for."""
    config = json.loads((folder / "config.json").read_text())
    block = config.pop("openvla_toolkit")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "contract.json").unlink(missing_ok=True)
    text = block.get("text_config") or config["text_config"]
    vision = block["policy"]["vision_backbone"]
    options = vision["options"]
    towers = {
        name: {key: options[key][number] for key in ("embed_dim", "depth", "num_heads")}
        for number, name in enumerate(["featurizer", "fused_featurizer"][: len(options["depth"])])
    }
    name = (
        config.get("vision_backbone_id") or config.get("model", {}).get("vision_backbone_id") or vision["id"]
    )
    arch = {"vision_backbone_id": name, "featurizer": towers, "llm": text}
    (folder / "arch.json").write_text(json.dumps(arch))
    return folder
