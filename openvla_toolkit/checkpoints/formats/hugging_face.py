"""Hugging Face folders of OpenVLA and Prismatic models, as the original's converter writes them: reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from openvla_toolkit.checkpoints.formats.beside import sizes_beside, with_tower_sizes
from openvla_toolkit.checkpoints.formats.content import (
    FROM_TOKENIZER,
    UNKNOWN_ROBOT,
    Content,
    field,
    problem_in,
    read_json,
    tokens_head,
)
from openvla_toolkit.checkpoints.formats.key_names import computed, spelled
from openvla_toolkit.checkpoints.formats.plain import prompt_of
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
    prompt = prompt_of(config.get("llm_backbone_id"))
    text_config = field(config, "text_config", dict, place=place)
    return Content(
        place=str(folder),
        policy={
            "name": "openvla",
            "vision_backbone": _vision(config, images, folder),
            "language_model": _language(config, text_config, place),
            "projector": _projector(config, place),
            "prompt": {"name": prompt},
            "head": tokens_head(_whole(config, "n_action_bins", 256, place=place)),
            "max_tokens": _whole(config, "llm_max_length", 2048, place=place),
        },
        assumed=frozenset({"prompt"}),
        text_config=text_config,
        contract=Contract(
            robot=UNKNOWN_ROBOT, cameras=("primary",), images=images, prompt=PromptRecipe(builder=prompt)
        ),
        statistics=_statistics(config, folder),
        tokenizer=str(folder),
        # The original finds the action ids as the last ones below this number.
        vocabulary_size=_vocabulary_size(text_config, config, place),
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
    size = _size(field(config, "input_sizes", list, place=place), place)
    if not resizes:
        raise CheckpointError(f"{place}: 'tvf_resize_params' is empty; one entry per tower is expected.")
    if any(not number > 0 for one in colours for number in field(one, "std", list, place=place)):
        raise CheckpointError(f"{place}: 'tvf_normalize_params' divides by a 'std' that is not positive.")
    fill = config.get("tvf_letterbox_fill") if config.get("tvf_do_letterbox") else None
    try:
        interpolation = resizes[0]["interpolation"]
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
        problem = problem_in(error) if isinstance(error, ValidationError) else repr(error)
        raise CheckpointError(f"{place} does not describe an image processor: {problem}.") from error


def _size(sizes: list[Any], place: Path) -> int:
    """Return the height and width that all towers share."""
    edges = {edge for one in sizes if isinstance(one, list) for edge in one[1:] if isinstance(edge, int)}
    if len(edges) != 1 or not all(isinstance(one, list) and len(one) == 3 for one in sizes):
        raise CheckpointError(
            f"{place}: 'input_sizes' is {sizes}; [3, SIZE, SIZE] for each tower, of one SIZE, is expected."
        )
    return int(*edges)


def _edges(resizes: list[dict[str, Any]], size: int) -> tuple[int, ...] | None:
    edges = tuple(one["size"] for one in resizes)
    return edges if all(isinstance(edge, int) for edge in edges) and set(edges) != {size} else None


def _vision(config: Mapping[str, Any], images: ImageRecipe, folder: Path) -> dict[str, Any]:
    place = folder / CONFIG_FILE
    models = field(config, "timm_model_ids", list, place=place)
    settings: dict[str, Any] = {
        "name": "timm",
        "models": models,
        "image_size": images.size,
        "resize": images.strategy,
        "mean": images.means,
        "std": images.stds,
        "options": _tower_options(config, len(models), place),
    }
    sizes = sizes_beside(folder, vision_id=config.get("vision_backbone_id"))
    return with_tower_sizes(settings, sizes["towers"]) if sizes else settings


def _tower_options(config: Mapping[str, Any], towers: int, place: Path) -> dict[str, Any]:
    """Return further arguments of ``timm.create_model``: the original's activations, and what is ours.

    The classes of ``transformers`` keep the toolkit's in ``timm_options``, one mapping per tower; other
    programs keep the whole block when they write ``config.json`` anew.
    """
    activations = config.get("timm_override_act_layers") or []
    options: dict[str, Any] = {"act_layer": activations} if any(activations) else {}
    if BLOCK in config:
        own: dict[str, Any] = field(config, f"{BLOCK}.policy.vision_backbone", dict, place=place)
        return {**options, **own.get("options", {})}
    given = field({"timm_options": [{}] * towers, **config}, "timm_options", list, place=place)
    if len(given) != towers or not all(isinstance(entry, dict) for entry in given):
        raise CheckpointError(f"{place}: 'timm_options' is {given!r}; {towers} JSON objects are expected.")
    keys = sorted({key for entry in given for key in entry})
    return options | {key: [entry.get(key) for entry in given] for key in keys}


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


def _vocabulary_size(text_config: Mapping[str, Any], config: Mapping[str, Any], place: Path) -> int | None:
    rows = text_config.get("vocab_size")
    return rows - _whole(config, "pad_to_multiple_of", 64, place=place) if isinstance(rows, int) else None


def _whole(config: Mapping[str, Any], key: str, default: int, *, place: Path) -> int:
    """Return a whole number; configurations written before there was such a field go by its default."""
    return int(field(config, key, int, place=place)) if key in config else default


def _statistics(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the statistics in ``config.json``, those of ``dataset_statistics.json`` taking precedence."""
    place = folder / STATISTICS_FILE
    own = config.get("norm_stats")
    if own is not None:
        own = field(config, "norm_stats", dict, place=folder / CONFIG_FILE)
    return {**(own or {}), **(read_json(place) if place.is_file() else {})}


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from openvla_toolkit.checkpoints.tensors import read_tensors

    return ((spelled(name), value) for name, value in read_tensors(folder) if not computed(name))
