"""Policies put together: from scratch, and from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from openvla_toolkit.checkpoints.adapters import adapter_names
from openvla_toolkit.checkpoints.formats.content import UNKNOWN_ROBOT, Content
from openvla_toolkit.checkpoints.formats.fingerprint import Fingerprint
from openvla_toolkit.checkpoints.formats.reading import outlined_content, read_content
from openvla_toolkit.checkpoints.tensors import load_into
from openvla_toolkit.checkpoints.tokenizer_files import tokenizer_of
from openvla_toolkit.core.contract import Contract, ImageRecipe, Interface, Normalization, PromptRecipe
from openvla_toolkit.core.errors import CheckpointError, ContractMismatch, MissingDependency
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.adapting import adapt, base_of
from openvla_toolkit.policies.prismatic.agreement import agree
from openvla_toolkit.policies.prismatic.freezing import withhold
from openvla_toolkit.policies.prismatic.model import PrismaticModel, tied_names
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.policies.prismatic.projector import Projector
from openvla_toolkit.policies.prismatic.quantization import quantize

__all__ = ["assemble", "empty_parameters", "filled", "outline", "restore"]


def assemble(
    config: OpenVLAConfig, *, robot: Interface | None, statistics: Mapping[str, Statistics]
) -> OpenVLAPolicy:
    """Make a policy with fresh (or the backbones' own pretrained) weights."""
    config = filled(config)
    module, tokenizer = _fresh(config)
    contract = _contract(config, module.vision_backbone.image_recipe(), robot)
    return OpenVLAPolicy(config, module, tokenizer=tokenizer, contract=contract, statistics=dict(statistics))


def _fresh(config: OpenVLAConfig) -> tuple[PrismaticModel, PreTrainedTokenizerFast]:
    """Make network and tokenizer of complete settings."""
    assert config.vision_backbone is not None
    assert config.language_model is not None
    language = _attending(config.language_model, _attention(config, config.language_model)).build()
    vision = _attending(config.vision_backbone, _attention(config, config.vision_backbone)).build()
    return _join(config, vision, language.module), language.tokenizer


def restore(
    config: OpenVLAConfig, *, robot: Interface | None, statistics: Mapping[str, Statistics]
) -> OpenVLAPolicy:
    """Make a policy from a checkpoint; its statistics are kept beside those given.

    Raises:
        CheckpointError: the checkpoint is damaged, or contradicts a setting that was given.
    """
    content = read_content(
        str(config.weights), base=config.base, merge=config.merge, tokenizer=config.tokenizer
    )
    stored = _stored(content, config)
    with empty_parameters():
        module = _empty(content, stored)
    tokenizer = tokenizer_of(content)  # said before gigabytes are read
    tied = tied_names(module)
    seen = Fingerprint()
    tensors = seen.passing(content.tensors())
    load_into(module, tensors, dtype=getattr(torch, config.dtype), source=content.place, tied=tied)
    if tied:
        module.language_model.tie_weights()
    _finish(module, config, content)
    base = None
    if adapter_names(module):
        base = base_of(config, content, seen.text())
    statistics_of_data = {**_statistics(content), **statistics}
    return OpenVLAPolicy(
        stored,
        module,
        tokenizer=tokenizer,
        contract=_restored_contract(content, stored, robot),
        statistics=statistics_of_data,
        base=base,
    )


def outline(config: OpenVLAConfig) -> PrismaticModel | None:
    """Make the network of a policy without its numbers, frozen and adapted as in training; fetch nothing.

    None where the weights are not here and not in the catalog: what they are made of is not known then.

    Raises:
        CheckpointError: the checkpoint is damaged, or contradicts a setting that was given.
    """
    if config.weights is None:
        with torch.device("meta"):
            return _fresh(filled(config))[0]
    content = outlined_content(config.weights, base=config.base, merge=config.merge)
    if content is None:
        return None
    with torch.device("meta"):
        module = _empty(content, _stored(content, config)).to(getattr(torch, config.dtype))
        _finish(module, config, content)
    return module


def _stored(content: Content, config: OpenVLAConfig) -> OpenVLAConfig:
    """Return the settings of a checkpoint with what may be chosen anew as it was asked for."""
    stored = filled(_settings(content, config))
    agree(config, stored, place=content.place, assumed=content.assumed)
    return _as_asked(stored, config)


def _empty(content: Content, stored: OpenVLAConfig) -> PrismaticModel:
    """Make the modules of a checkpoint."""
    assert stored.vision_backbone is not None
    language = _language_model(content, stored)
    attention = _attention(stored, stored.vision_backbone)
    vision = _attending(stored.vision_backbone.architecture(), attention).build()
    return _join(stored, vision, language)


def _finish(module: PrismaticModel, config: OpenVLAConfig, content: Content) -> None:
    """Quantize, freeze and adapt a network as asked."""
    if config.quantization is not None:
        quantize(module, config.quantization)
    withhold(module, config.freeze)
    if content.adapter is not None or config.lora is not None:
        adapt(module, config, content.adapter)


def _settings(content: Content, config: OpenVLAConfig) -> OpenVLAConfig:
    if content.policy["name"] != config.name:
        raise CheckpointError(
            f"{content.place} holds a policy '{content.policy['name']}', not '{config.name}'."
        )
    try:
        stored = OpenVLAConfig.model_validate({"weights": content.place, **content.policy})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CheckpointError(f"{content.place}: policy.{where}: {problem['msg']}.") from error
    for part in ("vision_backbone", "language_model"):
        if getattr(stored, part) is None:
            raise CheckpointError(f"{content.place}: policy.{part} is missing; settings are expected.")
    return stored


def _as_asked(stored: OpenVLAConfig, config: OpenVLAConfig) -> OpenVLAConfig:
    """Return the checkpoint's settings with what may be chosen anew: execution, prompt and head."""
    update = {key: getattr(config, key) for key in ("freeze", "weights", *config.execution)}
    update |= {key: getattr(config, key) for key in ("prompt", "head") if getattr(config, key) is not None}
    for part in ("vision_backbone", "language_model"):
        given = getattr(config, part)
        if given is not None and "attention" in given.model_fields_set:
            update[part] = _attending(getattr(stored, part), given.attention)
    return stored.model_copy(update=update)


def _attention(config: OpenVLAConfig, part: Any) -> str | None:
    """Return the implementation of attention for a backbone's settings: the policy's choice, else its own."""
    wanted = config.attention
    if wanted is None or (wanted == "flash_attention_2" and part.kind == "vision_backbone"):
        return getattr(part, "attention", None)
    return wanted


def _attending(part: Any, attention: str | None) -> Any:
    """Return a backbone's settings with this implementation of attention, where they offer a choice."""
    if attention is None or "attention" not in type(part).model_fields:
        return part
    return part.model_copy(update={"attention": attention})


def _restored_contract(content: Content, stored: OpenVLAConfig, robot: Interface | None) -> Contract:
    contract = content.contract
    if stored.prompt is not None and stored.prompt.name != contract.prompt.builder:
        prompt = contract.prompt.model_copy(update={"builder": stored.prompt.name})
        contract = contract.model_copy(update={"prompt": prompt})
    contract = _framed(contract, stored)
    return contract if robot is None else _for_robot(contract, robot)


def _framed(contract: Contract, config: OpenVLAConfig) -> Contract:
    """Return the contract with the way pictures are framed that was asked for, if one was."""
    if config.frame is None:
        return contract
    images = contract.images.model_copy(update={"frame": config.frame})
    return contract.model_copy(update={"images": images})


def _statistics(content: Content) -> dict[str, Statistics]:
    return {
        name: Statistics.from_json(entry, place=f"{content.place}: statistics of {name}")
        for name, entry in content.statistics.items()
    }


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
    module = PrismaticModel(vision, projector, language)
    withhold(module, config.freeze)
    return module


def _language_model(content: Content, stored: OpenVLAConfig) -> PreTrainedModel:
    try:
        settings = AutoConfig.for_model(**content.text_config)
    except (KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise _no_language_model(content, error) from error
    attention = _attention(stored, stored.language_model) or "sdpa"
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(settings, attn_implementation=attention)
    except ImportError as error:
        raise MissingDependency(f"attention '{attention}'", "flash-attn", install="flash-attn") from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _no_language_model(content, error) from error
    return model


def _no_language_model(content: Content, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split()).rstrip(".")
    return CheckpointError(f"{content.place}: 'text_config' does not describe a language model: {reason}.")


def _contract(config: OpenVLAConfig, images: ImageRecipe, robot: Interface | None) -> Contract:
    assert config.cameras is not None
    assert config.chunk is not None
    assert config.normalization is not None
    assert config.prompt is not None
    code = getattr(config.head, "action_tokenizer", None)
    prompt = PromptRecipe(builder=config.prompt.name)
    contract = Contract(
        robot=UNKNOWN_ROBOT,
        cameras=config.cameras,
        chunk=config.chunk,
        images=images,
        prompt=prompt if code is None else prompt.model_copy(update={"action_tokenizer": code.name}),
        normalization=config.normalization,
    )
    contract = _framed(contract, config)
    return contract if robot is None else _for_robot(contract, robot)


def _for_robot(contract: Contract, robot: Interface) -> Contract:
    missing = [camera for camera in contract.cameras if camera not in robot.cameras]
    if missing:
        raise ContractMismatch(
            f"the policy looks at camera '{missing[0]}'; the robot of the data has "
            f"{', '.join(robot.cameras) or 'none'}. Name its cameras in policy.cameras."
        )
    return contract.model_copy(update={"robot": robot})
