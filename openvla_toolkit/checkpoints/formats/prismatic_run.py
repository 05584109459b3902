"""Training runs of Prismatic and OpenVLA: ``config.json`` and ``checkpoints/*.pt``; reading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from openvla_toolkit.catalog.backbones import (
    TokenizerRules,
    language_entry,
    language_settings,
    vision_entry,
    vision_settings,
)
from openvla_toolkit.catalog.models import vlm_configuration
from openvla_toolkit.checkpoints.formats.beside import sizes_beside, tokenizer_beside, with_tower_sizes
from openvla_toolkit.checkpoints.formats.content import (
    FROM_TOKENIZER,
    UNKNOWN_ROBOT,
    Content,
    field,
    problem_in,
    read_json,
    tokens_head,
)
from openvla_toolkit.checkpoints.formats.key_names import MODULES, computed, from_native
from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE, STATISTICS_FILE
from openvla_toolkit.core.contract import Contract, ImageRecipe, PromptRecipe
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.core.registry import load

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LATEST", "checkpoint_file", "described", "is_run", "read"]

LATEST = "latest-checkpoint.pt"
_STEP = re.compile(r"step-(\d+)")


def is_run(path: Path) -> bool:
    """Tell whether this is a training run of the original, or one of its checkpoints."""
    if path.is_file():
        return path.suffix == ".pt"
    return any((path / "checkpoints").glob("*.pt"))


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint that a run, its ``checkpoints`` folder or a file stands for: the latest one.

    Raises:
        CheckpointError: there is none.
    """
    if path.is_file():
        return path
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    if (folder / LATEST).is_file():
        return folder / LATEST
    steps = {file: match for file in folder.glob("*.pt") if (match := _STEP.match(file.name))}
    if not steps:
        raise CheckpointError(f"{folder} holds neither {LATEST} nor any step-*.pt.")
    return max(steps, key=lambda file: (int(steps[file][1]), file.name))


def read(path: Path) -> Content:
    """Describe a training run; settings come from the catalog's tables, by the ids in ``config.json``.

    Raises:
        CheckpointError: a file or field is missing, damaged or unknown; names it.
    """
    file = checkpoint_file(path)
    run = file.parent.parent
    place, config = _config(run)
    statistics_file = run / STATISTICS_FILE
    statistics = read_json(statistics_file) if statistics_file.is_file() else {}
    if BLOCK in config:
        return _written_here(config[BLOCK], file, statistics, place)
    model = _model(config, place)
    sizes = sizes_beside(run, vision_id=model["vision_backbone_id"])
    own_tokenizer = tokenizer_beside(run, vision_id=model["vision_backbone_id"])
    content = described(model, place=place, sizes=sizes)
    vision = content.policy["vision_backbone"]
    return replace(
        content,
        place=str(file),
        statistics=statistics,
        tokenizer=own_tokenizer or content.tokenizer,
        tensors=lambda: _tensors(file, vision),
    )


def described(model: Mapping[str, Any], *, place: str | Path, sizes: Mapping[str, Any]) -> Content:
    """Describe what a model of the originals is made of, without its tensors and statistics.

    Args:
        model: the fields of its configuration, as ``catalog.models.vlm_configuration`` returns them.
        place: how the configuration is called in errors.
        sizes: ``towers`` and ``text`` sizes that differ from the published ones; may be empty.

    Raises:
        CheckpointError: a field has a value that the originals do not know.
    """
    try:
        vision = vision_settings(model["vision_backbone_id"], resize=model["image_resize_strategy"])
        language = language_settings(model["llm_backbone_id"])
    except UserError as error:
        raise CheckpointError(f"{place}: {error}") from error
    if sizes:
        vision = with_tower_sizes(vision, sizes["towers"])
        own = {key: value for key, value in sizes["text"].items() if key not in FROM_TOKENIZER}
        language = {**language, "settings": {**language["settings"], **own}}
    facts = language_entry(model["llm_backbone_id"])
    try:
        images = _images(model)
    except ValidationError as error:
        raise CheckpointError(f"{place}: the images' {problem_in(error)}.") from error
    return Content(
        place=str(place),
        policy={
            "name": "openvla",
            "vision_backbone": vision,
            "language_model": language,
            "projector": model["arch_specifier"].removeprefix("no-align+"),
            "prompt": {"name": facts.prompt},
            "head": tokens_head(),
            "max_tokens": model["llm_max_length"],
        },
        text_config={
            "model_type": facts.model_type,
            **language["settings"],
            "vocab_size": facts.tokenizer.embedding_rows,
            "bos_token_id": facts.tokenizer.bos_id,
            "eos_token_id": facts.tokenizer.eos_id,
            "pad_token_id": facts.tokenizer.pad_id,
            **sizes.get("text", {}),
        },
        contract=Contract(
            robot=UNKNOWN_ROBOT,
            cameras=("primary",),
            images=images,
            prompt=PromptRecipe(builder=facts.prompt),
        ),
        statistics={},
        tokenizer=facts.hub_id,
        vocabulary_size=_vocabulary_size(facts.tokenizer, sizes.get("text", {})),
        pad_token=facts.tokenizer.pad,
        is_run=True,
        tensors=lambda: (),
    )


def _config(run: Path) -> tuple[Path, dict[str, Any]]:
    place = run / CONFIG_FILE
    if place.is_file() or not place.with_suffix(".yaml").is_file():
        return place, read_json(place)
    import yaml

    place = place.with_suffix(".yaml")
    try:
        config = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{place} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{place} is damaged: it holds no mapping.")
    return place, config


def _model(config: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Return the fields that say what the model is made of."""
    if "vla" in config:
        base = field(config, "vla.base_vlm", str, place=place)
        try:
            return vlm_configuration(base)
        except UserError as error:
            raise CheckpointError(f"{place}: vla.base_vlm: {error}") from error
    keys = ("vision_backbone_id", "llm_backbone_id", "arch_specifier")
    model = {key: field(config, f"model.{key}", str, place=place) for key in keys}
    return {"image_resize_strategy": "letterbox", "llm_max_length": 2048, **config["model"], **model}


def _images(model: Mapping[str, Any]) -> ImageRecipe:
    facts = vision_entry(model["vision_backbone_id"])
    strategy = model["image_resize_strategy"]
    plain = strategy == "resize-naive" or set(facts.short_edges) == {facts.image_size}
    return ImageRecipe(
        strategy=strategy,
        size=facts.image_size,
        means=facts.means,
        stds=facts.stds,
        edges=None if plain else facts.short_edges,
        fills=facts.letterbox_fill if strategy == "letterbox" else None,
    )


def _vocabulary_size(facts: TokenizerRules, sizes: Mapping[str, Any]) -> int | None:
    """Return how many ids of text there must be; added tokens, the padding last, stand behind them."""
    if "pad_token_id" in sizes:
        return facts.vocabulary_size + int(sizes["pad_token_id"]) - facts.pad_id
    return (
        facts.vocabulary_size
        if sizes.get("vocab_size", facts.embedding_rows) == facts.embedding_rows
        else None
    )


def _written_here(block: Mapping[str, Any], file: Path, statistics: dict[str, Any], place: Path) -> Content:
    """Describe a run that the toolkit wrote: its numbers need not be the published architecture's."""
    run = file.parent.parent
    policy = field(block, "policy", dict, place=f"{place}: {BLOCK}")
    vision = field(policy, "vision_backbone", dict, place=f"{place}: {BLOCK}.policy")
    published = field(policy, "language_model.tokenizer", str, place=f"{place}: {BLOCK}.policy")
    try:
        contract = Contract.model_validate(field(block, "contract", dict, place=f"{place}: {BLOCK}"))
    except ValidationError as error:
        raise CheckpointError(f"{place}: {BLOCK}.contract.{problem_in(error)}.") from error
    return Content(
        place=str(file),
        policy=policy,
        text_config=field(block, "text_config", dict, place=f"{place}: {BLOCK}"),
        contract=contract,
        statistics=statistics,
        tokenizer=tokenizer_beside(run, vision_id=None) or published,
        tensors=lambda: _tensors(file, vision),
    )


def _tensors(file: Path, vision: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    modules = _modules(file)
    for module in MODULES:
        for key, value in modules.get(module, {}).items():
            if not computed(key):
                yield from_native(module, key), value
    if "vision_backbone" not in modules:  # it was frozen: the original leaves it out of the checkpoint
        towers: Any = load("vision_backbone", vision["name"]).model_validate({**vision, "pretrained": True})
        for key, value in towers.build().state_dict().items():
            yield f"vision_backbone.{key}", value


def _modules(file: Path) -> dict[str, dict[str, Tensor]]:
    """Open a ``.pt`` file, its tensors mapped into memory and not yet read.

    Raises:
        CheckpointError: it is damaged, holds something else, or would run code.
    """
    import pickle

    import torch

    try:
        data = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors and would run code when loaded, so it is refused: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} cannot be read: {str(error).splitlines()[0]}.") from error
    modules = data.get("model") if isinstance(data, dict) else None
    if not isinstance(modules, dict):
        raise CheckpointError(
            f"{file} has no entry 'model': it is no checkpoint of a Prismatic training run."
        )
    for name, module in modules.items():
        _check_tensors(module, place=f"{file}: 'model.{name}'")
    if modules.get("downsampler"):
        raise CheckpointError(f"{file}: 'model.downsampler' is not empty; no released model has one.")
    if missing := [name for name in ("llm_backbone", "projector") if not modules.get(name)]:
        raise CheckpointError(
            f"{file}: 'model' lacks '{missing[0]}'; it has {', '.join(modules) or 'nothing'}."
        )
    return modules


def _check_tensors(module: Any, *, place: str) -> None:
    if not isinstance(module, dict):
        raise CheckpointError(f"{place} is a {type(module).__name__}; names with tensors are expected.")
    for key, value in module.items():
        if not isinstance(key, str) or not hasattr(value, "shape"):
            raise CheckpointError(f"{place} holds {key!r}: {type(value).__name__}; a tensor is expected.")
