"""Policies put together: from scratch, and from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from openvla_toolkit.checkpoints.layout import CONFIG_FILE, CONTRACT_FILE, STATISTICS_FILE
from openvla_toolkit.checkpoints.load import read_settings
from openvla_toolkit.checkpoints.locate import locate
from openvla_toolkit.checkpoints.tensors import load_into, read_tensors
from openvla_toolkit.core.contract import Contract, ImageRecipe, Interface, Normalization, PromptRecipe
from openvla_toolkit.core.errors import CheckpointError, ContractMismatch
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.agreement import agree
from openvla_toolkit.policies.prismatic.model import PrismaticModel, tied_names
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.policies.prismatic.projector import Projector

__all__ = ["assemble", "empty_parameters", "filled", "restore"]

NO_ROBOT = Interface(cameras={}, action=(), control_hz=1.0)
"""The robot of a model that was trained on conversations only."""


def assemble(
    config: OpenVLAConfig, *, robot: Interface | None, statistics: Mapping[str, Statistics]
) -> OpenVLAPolicy:
    """Make a policy with fresh (or the backbones' own pretrained) weights."""
    config = filled(config)
    assert config.vision_backbone is not None
    assert config.language_model is not None
    language = config.language_model.build()
    vision = config.vision_backbone.build()
    module = _join(config, vision, language.module)
    contract = _contract(config, vision.image_recipe(), robot)
    return OpenVLAPolicy(
        config, module, tokenizer=language.tokenizer, contract=contract, statistics=dict(statistics)
    )


def restore(
    config: OpenVLAConfig, *, robot: Interface | None, statistics: Mapping[str, Statistics]
) -> OpenVLAPolicy:
    """Make a policy from a checkpoint; its statistics are kept beside those given.

    Raises:
        CheckpointError: the checkpoint is damaged, or contradicts a setting that was given.
    """
    folder = locate(str(config.weights))
    stored = read_settings(folder)
    if not isinstance(stored, OpenVLAConfig):
        raise CheckpointError(f"{folder} holds a policy '{stored.name}', not '{config.name}'.")
    stored = filled(stored)
    agree(config, stored, place=str(folder))
    assert stored.vision_backbone is not None
    with empty_parameters():
        language = _language_model(folder, stored)
        module = _join(stored, stored.vision_backbone.architecture().build(), language)
    tied = tied_names(module)
    load_into(module, read_tensors(folder), dtype=getattr(torch, config.dtype), source=str(folder), tied=tied)
    if tied:
        language.tie_weights()
    kept = stored.model_copy(
        update={"freeze": config.freeze, "weights": config.weights, "dtype": config.dtype}
    )
    contract = _read_contract(folder)
    return OpenVLAPolicy(
        kept,
        _frozen(module, config),
        tokenizer=_read_tokenizer(folder),
        contract=contract if robot is None else _for_robot(contract, robot),
        statistics={**_read_statistics(folder), **statistics},
    )


def filled(config: OpenVLAConfig) -> OpenVLAConfig:
    """Return the settings with the defaults of a policy from scratch."""
    defaults: dict[str, Any] = {
        "projector": "gelu-mlp",
        "prompt": load("prompt", "pure")(name="pure"),
        "head": load("action_head", "tokens")(name="tokens"),
        "cameras": ("primary",),
        "chunk": 1,
        "normalization": Normalization(),
        "max_tokens": 2048,
    }
    return config.model_copy(
        update={key: value for key, value in defaults.items() if getattr(config, key) is None}
    )


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Make parameters without memory while modules are built; a checkpoint fills them.

    Buffers are made as ever: those that are computed and not stored (rotary frequencies) would be lost.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _join(config: OpenVLAConfig, vision: Any, language: PreTrainedModel) -> PrismaticModel:
    assert config.projector is not None
    projector = Projector(
        config.projector,
        vision_dim=vision.embed_dim,
        text_dim=language.config.hidden_size,
        init_std=config.projector_std,
    )
    return _frozen(PrismaticModel(vision, projector, language), config)


def _frozen(module: PrismaticModel, config: OpenVLAConfig) -> PrismaticModel:
    for part in config.freeze:
        module.get_submodule(part).requires_grad_(False)
    return module


def _language_model(folder: Path, stored: OpenVLAConfig) -> PreTrainedModel:
    place = folder / CONFIG_FILE
    try:
        text_config: dict[str, Any] = json.loads(place.read_text())["text_config"]
        settings = AutoConfig.for_model(**text_config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place}: 'text_config' does not describe a language model: {error}."
        ) from error
    attention = getattr(stored.language_model, "attention", "sdpa")
    model: PreTrainedModel = AutoModelForCausalLM.from_config(settings, attn_implementation=attention)
    return model


def _contract(config: OpenVLAConfig, images: ImageRecipe, robot: Interface | None) -> Contract:
    assert config.cameras is not None
    assert config.chunk is not None
    assert config.normalization is not None
    assert config.prompt is not None
    code = getattr(config.head, "action_tokenizer", None)
    prompt = PromptRecipe(builder=config.prompt.name)
    contract = Contract(
        robot=NO_ROBOT,
        cameras=config.cameras,
        chunk=config.chunk,
        images=images,
        prompt=prompt if code is None else prompt.model_copy(update={"action_tokenizer": code.name}),
        normalization=config.normalization,
    )
    return contract if robot is None else _for_robot(contract, robot)


def _for_robot(contract: Contract, robot: Interface) -> Contract:
    missing = [camera for camera in contract.cameras if camera not in robot.cameras]
    if missing:
        raise ContractMismatch(
            f"the policy looks at camera '{missing[0]}'; the robot of the data has "
            f"{', '.join(robot.cameras) or 'none'}. Name its cameras in policy.cameras."
        )
    return contract.model_copy(update={"robot": robot})


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    place = folder / "tokenizer.json"
    try:
        json.loads(place.read_text(encoding="utf-8"))  # the library's own complaint does not name the file
        return PreTrainedTokenizerFast.from_pretrained(folder)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} is missing or damaged: {error}.") from error


def _read_contract(folder: Path) -> Contract:
    place = folder / CONTRACT_FILE
    try:
        return Contract.model_validate_json(place.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{place} is missing or damaged: {str(error).splitlines()[0]}.") from error


def _read_statistics(folder: Path) -> dict[str, Statistics]:
    place = folder / STATISTICS_FILE
    try:
        entries: dict[str, Any] = json.loads(place.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} is missing or damaged: {error}.") from error
    return {name: Statistics.from_json(entry, place=f"{place}: {name}") for name, entry in entries.items()}
