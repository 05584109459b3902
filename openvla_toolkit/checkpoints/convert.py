"""From one format of checkpoints to another, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from openvla_toolkit.catalog.backbones import language_entry, vision_entry
from openvla_toolkit.checkpoints.formats import hugging_face_files, prismatic_files
from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.formats.hugging_face_files import Ids
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.storage import atomic_folder

if TYPE_CHECKING:
    import torch

__all__ = ["SHARD_BYTES", "NumberType", "convert", "with_the_ports_numbers"]

NumberType = Literal["float32", "bfloat16", "float16"]
"""What tensors are written as."""
SHARD_BYTES = 7_000_000_000
"""Largest file of tensors, as the original's converter writes them."""


def convert(
    source: str | Path,
    target: Path,
    *,
    to: Literal["hf", "prismatic"],
    dtype: NumberType | None = None,
    exact: bool = False,
    base: str | Path | None = None,
    tokenizer: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Content:
    """Write a checkpoint of any format in another; a LoRA adapter is merged. Return what was converted.

    The original's converter changes numbers when a training run becomes a Hugging Face folder: it takes the
    library's ``rms_norm_eps`` in place of the language model's, rounds the colours to bfloat16, and pads for
    all towers with the last one's mean. Published checkpoints came to be that way, so this does the same
    for models that it can convert; with ``exact`` the numbers of the training run are kept.

    Args:
        dtype: number type on disk (``bfloat16``); None: bfloat16 for ``hf``, each tensor's own for
            ``prismatic``.
        base: what an adapter is put on.
        tokenizer: a folder or hub id in place of the checkpoint's own.
        shard_bytes: largest file of tensors, for ``hf``.

    Raises:
        CheckpointError: the source is damaged.
        UserError: the originals have no such model, for ``prismatic``; or there is no such ``dtype``.
        StorageError: ``target`` exists, or the disk refuses.
    """
    import torch

    from openvla_toolkit.checkpoints.tokenizer_files import tokenizer_of

    if dtype is not None and dtype not in get_args(NumberType):
        raise UserError(f"tensors are written as {', '.join(get_args(NumberType))}, not as '{dtype}'.")
    content = read_content(source, base=base, tokenizer=tokenizer)
    opened = tokenizer_of(content)
    kind: torch.dtype | None = None if dtype is None else getattr(torch, dtype)
    with atomic_folder(target) as folder:
        if to == "prismatic":
            prismatic_files.write(folder, content, tokenizer=opened, dtype=kind)
        else:
            told = content if exact or not content.is_run else with_the_ports_numbers(content)
            hugging_face_files.write(
                folder, told, tokenizer=opened, dtype=kind or torch.bfloat16, shard_bytes=shard_bytes
            )
    return content


def with_the_ports_numbers(content: Content) -> Content:
    """Return a training run's content with what the original's converter makes of its numbers.

    Nothing changes for models that it cannot convert.
    """
    ids = Ids.of(content.policy)
    if ids.vision is None or ids.language is None:
        return content
    language = language_entry(ids.language)
    if not (language.in_original_port and vision_entry(ids.vision).in_original_port):
        return content
    changed = {key: value for key, value in language.port.items() if language.hub.get(key) != value}
    images = _port_images(content.contract.images)
    settings = content.policy["language_model"]
    policy = {
        **content.policy,
        "language_model": {**settings, "settings": {**settings.get("settings", {}), **changed}},
        "vision_backbone": _recoloured(content.policy["vision_backbone"], images),
    }
    return replace(
        content,
        policy=policy,
        text_config={**content.text_config, **changed},
        contract=content.contract.model_copy(update={"images": images}),
    )


def _port_images(images: ImageRecipe) -> ImageRecipe:
    letterbox = images.strategy == "letterbox"
    return images.model_copy(
        update={
            "means": tuple(map(_rounded, images.means)),
            "stds": tuple(map(_rounded, images.stds)),
            "edges": None,
            "fills": (images.padding()[-1],) * len(images.means) if letterbox else None,
        }
    )


def _recoloured(vision: Mapping[str, Any], images: ImageRecipe) -> dict[str, Any]:
    return {**vision, "mean": images.means, "std": images.stds, "edges": images.edges, "fills": images.fills}


def _rounded(colour: tuple[float, float, float]) -> tuple[float, ...]:
    import torch

    return tuple(torch.tensor(colour).bfloat16().tolist())
