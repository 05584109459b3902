"""Hugging Face folders of OpenVLA and Prismatic models: writing, so that the original reads them.

Beside the original's files lie the toolkit's contract and, in ``config.json``, its own block; the original
ignores both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.catalog.backbones import language_entry, language_ids, vision_entry, vision_ids
from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.layout import (
    BLOCK,
    CONFIG_FILE,
    CONTRACT_FILE,
    PREPROCESSOR_FILE,
    STATISTICS_FILE,
)
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.storage import storage_errors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

__all__ = ["Ids", "arch_specifier", "plain_vision", "preprocessor_json", "write", "write_settings"]

_SEPARATOR, _LLAMA_SEPARATOR_ID = "▁", 29871
"""What stands before the first action token; the original knows Llama's id only."""
_FILTERS = {"lanczos": 1, "bilinear": 2, "bicubic": 3}


def write(
    folder: Path,
    content: Content,
    *,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write a checkpoint into an empty folder, one tensor at a time.

    Args:
        dtype: number type on disk; None keeps each tensor's.
        shard_bytes: files of tensors are not larger than this; None writes one file.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    from openvla_toolkit.checkpoints.tensors import write_sharded

    with storage_errors(folder):
        write_sharded(folder, content.outlines(), content.tensors(), dtype=dtype, shard_bytes=shard_bytes)
    write_settings(folder, content, tokenizer=tokenizer, dtype=dtype)


def write_settings(
    folder: Path, content: Content, *, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype | None = None
) -> None:
    """Write all of a checkpoint but its tensors: beside an adapter they stand for what it is put on.

    Args:
        dtype: number type that the tensors on disk have; None: float32.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    from openvla_toolkit.checkpoints.tokenizer_files import write_tokenizer

    config = _config_json(content, tokenizer, dtype=dtype)
    with storage_errors(folder):
        _write_json(folder / STATISTICS_FILE, content.statistics)
        _write_json(folder / CONTRACT_FILE, content.contract.model_dump(mode="json"))
        _write_json(folder / CONFIG_FILE, config)
        _write_json(folder / PREPROCESSOR_FILE, preprocessor_json(content))
        _write_json(folder / "generation_config.json", _generation_json(tokenizer))
        write_tokenizer(tokenizer, folder, max_length=config["llm_max_length"], processor=True)


@dataclass(frozen=True, slots=True)
class Ids:
    """The originals' names of a model's parts; None where the originals have no such part."""

    vision: str | None
    language: str | None

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> Ids:
        """Find the names of what a policy's settings describe."""
        vision, language = plain_vision(policy), policy["language_model"]
        towers = tuple(vision.get("models", ())), int(vision.get("image_size", 0))
        known = {(facts.towers, facts.image_size): facts.id for facts in map(vision_entry, vision_ids())}
        hub = {language_entry(name).hub_id: name for name in language_ids()}
        return cls(known.get(towers), language.get("id") or hub.get(str(language.get("tokenizer"))))

    @property
    def hub(self) -> str | None:
        """Return the hub id of the language model."""
        return None if self.language is None else language_entry(self.language).hub_id


def arch_specifier(projector: str) -> str:
    """Return the originals' name of a one-stage model with this projector.

    They know ``linear`` by the whole name, and the others by how it ends.
    """
    return projector if projector == "linear" else f"no-align+{projector}"


def plain_vision(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's vision backbone as settings of the component that makes it (``timm``)."""
    given = policy["vision_backbone"]
    component: Any = load("vision_backbone", given["name"]).model_validate(given)
    settings: dict[str, Any] = component.architecture().model_dump(mode="json")
    return settings


def _config_json(
    content: Content, tokenizer: PreTrainedTokenizerFast, *, dtype: torch.dtype | None
) -> dict[str, Any]:
    """Return ``config.json``: the fields of a published checkpoint, and the toolkit's own block."""
    from openvla_toolkit import __version__

    images, policy, ids = content.contract.images, content.policy, Ids.of(content.policy)
    kind = "openvla" if content.statistics else "prismatic"
    stored = str(dtype).removeprefix("torch.") if dtype is not None else "float32"
    text_config = _text_config(content.text_config, stored)
    vision = plain_vision(policy)
    towers = len(images.means)
    rows, ids_of_text = text_config["vocab_size"], tokenizer.backend_tokenizer.get_vocab_size(False)
    code = (policy.get("head") or {}).get("action_tokenizer") or {}
    config = {
        "architectures": [
            "OpenVLAForActionPrediction" if content.statistics else "PrismaticForConditionalGeneration"
        ],
        "model_type": kind,
        "arch_specifier": arch_specifier(policy["projector"]),
        "vision_backbone_id": ids.vision,
        "llm_backbone_id": ids.language,
        "hf_llm_id": ids.hub,
        "image_resize_strategy": images.strategy,
        "image_sizes": [images.size] * towers,
        "timm_model_ids": vision.get("models"),
        "timm_override_act_layers": _activations(vision, towers),
        "use_fused_vision_backbone": towers > 1,
        "llm_max_length": policy.get("max_tokens") or 2048,
        "output_projector_states": False,
        "pad_token_id": tokenizer.pad_token_id,
        # The original finds the action ids as the last ones below vocab_size - pad_to_multiple_of.
        "pad_to_multiple_of": rows - ids_of_text,
        "text_config": text_config,
        "torch_dtype": stored,
        BLOCK: {"version": __version__, "policy": dict(policy)},
    }
    if content.statistics:
        config |= {"n_action_bins": code.get("bins", 256), "norm_stats": content.statistics}
    config = {key: value for key, value in config.items() if value is not None}
    separator = tokenizer.backend_tokenizer.token_to_id(_SEPARATOR)
    return config if separator == _LLAMA_SEPARATOR_ID else {**config, "separator_id": separator}


def preprocessor_json(content: Content) -> dict[str, Any]:
    """Return ``preprocessor_config.json`` as the original's image processor reads it."""
    images, name = content.contract.images, Ids.of(content.policy).vision
    published = images if name is None else vision_entry(name)
    towers, size = len(images.means), images.size
    naive, letterbox = images.strategy == "resize-naive", images.strategy == "letterbox"
    frame = {} if images.frame is None else {"frame": images.frame.model_dump(mode="json")}
    return {
        **frame,  # the original's classes pass over it
        "image_processor_type": "PrismaticImageProcessor",
        "processor_class": "PrismaticProcessor",
        "use_fused_vision_backbone": towers > 1,
        "image_resize_strategy": images.strategy,
        "input_sizes": [[3, size, size]] * towers,
        "interpolations": [images.interpolation] * towers,
        "means": published.means,  # for the record; what counts is in tvf_normalize_params
        "stds": published.stds,
        "tvf_resize_params": [
            {
                "antialias": True,
                "interpolation": _FILTERS[images.interpolation],
                "max_size": None,
                "size": [size, size] if naive else edge,
            }
            for edge in images.edges or (size,) * towers
        ],
        "tvf_crop_params": [{"output_size": [size, size]}] * towers,
        "tvf_normalize_params": [
            {"inplace": False, "mean": mean, "std": std}
            for mean, std in zip(images.means, images.stds, strict=True)
        ],
        "tvf_do_letterbox": letterbox,
        "tvf_letterbox_fill": images.padding()[-1]
        if letterbox
        else None,  # the original pads once, for all towers
    }


def _text_config(given: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return the language model's settings, also under the names of releases before 5."""
    config = {key: value for key, value in given.items() if key not in ("dtype", "transformers_version")}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
    return {**config, "torch_dtype": dtype}


def _activations(vision: Mapping[str, Any], towers: int) -> list[str | None]:
    given = (vision.get("options") or {}).get("act_layer")
    return list(given) if isinstance(given, (list, tuple)) else [given] * towers


def _generation_json(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "_from_model_config": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
