"""Which policies a published folder describes in full: such a folder of the toolkit needs no contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvla_toolkit.catalog.backbones import language_entry, language_ids
from openvla_toolkit.checkpoints.formats.content import read_json
from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE, CONTRACT_FILE
from openvla_toolkit.core.contract import Normalization

__all__ = ["is_own", "is_plain", "prompt_of"]


def prompt_of(language_id: str | None) -> str:
    """Return the prompt style of a language model of the originals; that of any other is ``pure``."""
    return language_entry(language_id).prompt if language_id in language_ids() else "pure"


def is_plain(policy: Mapping[str, Any], *, language_id: str | None) -> bool:
    """Tell whether a policy's settings say no more than the fields of a published ``config.json`` do.

    Published models look through one camera, answer with one action in 256 (or so) even bins of -1 to 1, are
    scaled by quantiles, and are asked in the style of their language model.
    """
    head = policy.get("head") or {}
    code = head.get("action_tokenizer") or {}
    prompt = policy.get("prompt") or {}
    found = {
        "name": policy.get("name"),
        "cameras": list(policy.get("cameras") or ["primary"]),
        "chunk": 1 if policy.get("chunk") is None else policy["chunk"],
        "head": head.get("name", "tokens"),
        "code": code.get("name", "uniform-bins"),
        "range": (code.get("low", -1), code.get("high", 1)),
        "normalization": Normalization.model_validate(policy.get("normalization") or {}),
        "prompt": (prompt.get("name", prompt_of(language_id)), prompt.get("system")),
    }
    return found == {
        "name": "openvla",
        "cameras": ["primary"],
        "chunk": 1,
        "head": "tokens",
        "code": "uniform-bins",
        "range": (-1, 1),
        "normalization": Normalization(),
        "prompt": (prompt_of(language_id), None),
    }


def is_own(folder: Path) -> bool:
    """Tell whether the toolkit's settings in a folder count.

    Programs that know nothing of them, the original's fine-tuning among them, write ``config.json`` anew with
    the block and without the contract: that folder is what its published fields say, if these say enough.
    """
    config = read_json(folder / CONFIG_FILE)
    if BLOCK not in config:
        return False
    policy = config[BLOCK].get("policy") if isinstance(config[BLOCK], dict) else None
    if (folder / CONTRACT_FILE).is_file() or not isinstance(policy, dict):
        return True
    return not is_plain(policy, language_id=config.get("llm_backbone_id"))
