"""Hugging Face folders of OpenVLA and Prismatic models, as the original's converter writes them: reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.catalog.backbones import language_entry, language_ids
from openvla_toolkit.checkpoints.formats.beside import sizes_beside, tokenizer_beside, with_tower_sizes
from openvla_toolkit.checkpoints.formats.content import (
    FROM_TOKENIZER,
    UNKNOWN_ROBOT,
    Content,
    field,
    read_json,
    tokens_head,
)
from openvla_toolkit.checkpoints.formats.key_names import computed, spelled
from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE, PREPROCESSOR_FILE, STATISTICS_FILE
from openvla_toolkit.core.contract import Contract, ImageRecipe, PromptRecipe
from openvla_toolkit.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["images_of", "read"]

MODEL_TYPES = ("openvla", "prismatic")
_EXECUTION = ("model_type", "torch_dtype", "dtype", "architectures", "transformers_version", "use_cache")
_FILTERS: dict[object, str] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters."""


def read(folder: Path) -> Content:
    """Describe a published checkpoint.

    Raises:
        CheckpointError: a file or field is missing, damaged or unknown; names it.
    """
    place = folder / CONFIG_FILE
    config = read_json(place)
    if config.get("model_type") not in MODEL_TYPES:
        raise CheckpointError(
            f"{place} has no block '{BLOCK}', and its 'model_type' is {config.get('model_type')!r}; "
            f"{' or '.join(MODEL_TYPES)} is expected."
        )
    images = images_of(read_json(folder / PREPROCESSOR_FILE), place=folder / PREPROCESSOR_FILE)
    language_id = config.get("llm_backbone_id")
    prompt = language_entry(language_id).prompt if language_id in language_ids() else "pure"
    text_config = field(config, "text_config", dict, place=place)
    tokenizer = tokenizer_beside(folder)
    if tokenizer is None:
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing; copy or download it again.")
    return Content(
        place=str(folder),
        policy={
            "name": "openvla",
            "vision_backbone": _vision(config, images, folder),
            "language_model": _language(config, text_config, place),
            "projector": _projector(config, place),
            "prompt": {"name": prompt},
            "head": tokens_head(int(config.get("n_action_bins", 256))),
            "max_tokens": int(config.get("llm_max_length", 2048)),
        },
        assumed=frozenset({"prompt"}),
        text_config=text_config,
        contract=Contract(
            robot=UNKNOWN_ROBOT, cameras=("primary",), images=images, prompt=PromptRecipe(builder=prompt)
        ),
        statistics=_statistics(config, folder),
        tokenizer=tokenizer,
        tensors=lambda: _tensors(folder),
    )


def images_of(config: Mapping[str, Any], *, place: Path) -> ImageRecipe:
    """Return what ``preprocessor_config.json`` says.

    The ``tvf_*`` fields count, as in the original, whose converter rounded their colours to bfloat16.

    Raises:
        CheckpointError: a field is missing or says what cannot be done.
    """
    colours = field(config, "tvf_normalize_params", list, place=place)
    resizes = field(config, "tvf_resize_params", list, place=place)
    size = field(config, "input_sizes", list, place=place)[0][-1]
    interpolation = resizes[0]["interpolation"]
    fill = config.get("tvf_letterbox_fill") if config.get("tvf_do_letterbox") else None
    try:
        return ImageRecipe(
            strategy=field(config, "image_resize_strategy", str, place=place),
            interpolation=_FILTERS.get(interpolation, interpolation),
            size=size,
            means=tuple(tuple(one["mean"]) for one in colours),
            stds=tuple(tuple(one["std"]) for one in colours),
            edges=_edges(resizes, size),
            fills=None if fill is None else (tuple(fill),) * len(colours),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{place} does not describe an image processor: {error}.") from error


def _edges(resizes: list[dict[str, Any]], size: int) -> tuple[int, ...] | None:
    edges = tuple(one["size"] for one in resizes)
    return edges if all(isinstance(edge, int) for edge in edges) and set(edges) != {size} else None


def _vision(config: Mapping[str, Any], images: ImageRecipe, folder: Path) -> dict[str, Any]:
    place = folder / CONFIG_FILE
    models = field(config, "timm_model_ids", list, place=place)
    activations = config.get("timm_override_act_layers") or []
    settings: dict[str, Any] = {
        "name": "timm",
        "models": models,
        "image_size": images.size,
        "resize": images.strategy,
        "mean": images.means,
        "std": images.stds,
        "options": {"act_layer": activations} if any(activations) else {},
    }
    sizes = sizes_beside(folder, vision_id=config.get("vision_backbone_id"))
    return with_tower_sizes(settings, sizes["towers"]) if sizes else settings


def _language(config: Mapping[str, Any], text_config: Mapping[str, Any], place: Path) -> dict[str, Any]:
    left_out = (*FROM_TOKENIZER, *_EXECUTION)
    return {
        "name": "causal-lm",
        "model_type": field(text_config, "model_type", str, place=f"{place}: text_config"),
        "settings": {key: value for key, value in text_config.items() if key not in left_out},
        "tokenizer": config.get("hf_llm_id") or "unknown",
    }


def _projector(config: Mapping[str, Any], place: Path) -> str:
    arch: str = field(config, "arch_specifier", str, place=place)
    for name in ("linear", "fused-gelu-mlp", "gelu-mlp"):
        if arch == name or arch.endswith(f"+{name}"):
            return name
    raise CheckpointError(
        f"{place}: 'arch_specifier' is '{arch}'; linear, gelu-mlp or fused-gelu-mlp is expected."
    )


def _statistics(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the statistics in ``config.json``, those of ``dataset_statistics.json`` taking precedence."""
    place = folder / STATISTICS_FILE
    own = config.get("norm_stats") or {}
    return {**own, **(read_json(place) if place.is_file() else {})}


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from openvla_toolkit.checkpoints.tensors import read_tensors

    return ((spelled(name), value) for name, value in read_tensors(folder) if not computed(name))
