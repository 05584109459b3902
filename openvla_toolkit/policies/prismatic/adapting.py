"""Low-rank adapters of a Prismatic model: which layers get one, and what is trained with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from openvla_toolkit.checkpoints import adapters
from openvla_toolkit.checkpoints.formats import lora
from openvla_toolkit.checkpoints.formats.content import Content, read_json
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE
from openvla_toolkit.checkpoints.locate import locate
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.policies import Lora, OpenVLAConfig
from openvla_toolkit.policies.prismatic.freezing import parameters_of
from openvla_toolkit.policies.prismatic.model import PrismaticModel, tied_names

__all__ = ["Base", "adapt", "base_of", "written_settings"]

_WRITTEN = (
    *("r", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights", "use_dora", "use_rslora"),
    *("bias", "fan_in_fan_out", "task_type"),
)
"""Fields of ``adapter_config.json`` that the oldest peft to be reckoned with (the original's) knows."""


def adapt(model: PrismaticModel, config: OpenVLAConfig, adapter: Path | None) -> None:
    """Put the adapter of a folder, or a fresh one if one is to be trained, beside a model's weights.

    Adapters of layers that are never executed take no gradient and are not trained; they exist because the
    original's adapters have them.

    Raises:
        CheckpointError: the adapter of the folder has other settings than ``config.lora``.
        MissingDependency: peft is not installed.
        UserError: there is no layer to adapt.
    """
    if adapter is not None:
        if config.lora is not None:
            _agree(config.lora, adapter, _layers(model, config, config.lora))
        adapters.insert(model, adapter, trained=config.lora is not None)
    elif config.lora is not None:
        adapters.attach(model, _peft_settings(config.lora, _layers(model, config, config.lora)))
    unused = getattr(model.vision_backbone, "never_executed", None)
    for module in () if unused is None else unused():
        module.requires_grad_(False)


class Base(NamedTuple):
    """What an adapter is put on, as it is written beside it."""

    source: str
    """An absolute folder, or a name."""
    fingerprint: str | None
    """None where it is computed: the sum of weights and another adapter may differ in its last bits."""


def base_of(config: OpenVLAConfig, content: Content, fingerprint: str) -> Base:
    """Return what the adapter of a policy is put on; ``fingerprint`` is that of the content's tensors."""
    source = config.weights
    if content.adapter is not None:
        source = config.base or lora.base_of(content.adapter)
    assert source is not None
    computed = content.adapter is None and content.shapes is not None
    if Path(source).expanduser().exists():
        source = str(locate(source).resolve())
    return Base(source, None if computed else fingerprint)


def written_settings(model: nn.Module) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says of a model's adapter."""
    settings: Any = model.peft_config
    told = settings["default"].to_dict()
    return {key: told[key] for key in _WRITTEN}


def _layers(model: PrismaticModel, config: OpenVLAConfig, wanted: Lora) -> list[str]:
    frozen = {id(parameter) for part in config.freeze for parameter in parameters_of(model, part)}
    without = {
        name
        for name, layer in model.named_modules()
        if any(id(parameter) in frozen for parameter in layer.parameters(recurse=False))
    }
    # An output layer that shares the embeddings' weight cannot be told from them once it is merged.
    without |= {name.removesuffix(".weight") for name in tied_names(model)}
    layers = adapters.adapted(model, wanted.targets, without=without)
    if not layers:
        raise UserError("policy.lora: no layer is left for an adapter; see policy.freeze and lora.targets.")
    return layers


def _peft_settings(wanted: Lora, layers: list[str]) -> dict[str, Any]:
    return {
        "r": wanted.rank,
        "lora_alpha": wanted.alpha_or_default,
        "lora_dropout": wanted.dropout,
        "target_modules": layers,
        "init_lora_weights": "gaussian" if wanted.init == "gaussian" else True,
        "use_dora": wanted.dora,
        "use_rslora": wanted.rslora,
    }


def _agree(wanted: Lora, folder: Path, layers: Sequence[str]) -> None:
    """Check that an adapter that is trained on is what was asked for.

    Layers, dropout and first numbers are compared where they are asked for otherwise than by default: an
    adapter that somebody else made has its own.
    """
    told = read_json(folder / ADAPTER_FILE)
    asked = _peft_settings(wanted, [])
    compared = ["r", "lora_alpha", "use_dora", "use_rslora"]
    if wanted.dropout:
        compared.append("lora_dropout")
    if wanted.init != Lora().init:
        compared.append("init_lora_weights")
    remedy = "Train it on with its own settings, or merge it and train a new one."
    for key in compared:
        if asked[key] != told.get(key, False):
            raise CheckpointError(
                f"{folder}: the adapter has '{key}' {told.get(key)!r}, and policy.lora asks for "
                f"{asked[key]!r}. {remedy}"
            )
    if wanted.targets == Lora().targets:
        return
    there = lora.layers_of(folder)
    if other := there ^ set(layers):
        name = min(other)
        has = "an adapter of" if name in there else "none of"
        raise CheckpointError(
            f"{folder} has {has} '{name}', and policy.lora.targets asks for "
            f"{'none' if name in there else 'one'}. {remedy}"
        )
