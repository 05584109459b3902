"""LoRA adapters inside a model, beside its weights, by peft: fresh ones, and those of a folder."""

from __future__ import annotations

import logging
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from openvla_toolkit.checkpoints.formats import lora
from openvla_toolkit.core.errors import CheckpointError, MissingDependency, UserError, did_you_mean

__all__ = ["adapted", "adapter_names", "attach", "insert", "is_adapter"]


def adapted(model: nn.Module, targets: str | Collection[str], *, without: Collection[str] = ()) -> list[str]:
    """Return the names of the layers that get an adapter: linear ones, and convolutions such as of patches.

    Args:
        targets: patterns of names (``language_model.*.q_proj``); or ``all-linear``, which is peft's rule,
            that the original uses: every layer called as some linear layer is, wherever it stands.
        without: layers that get none.

    Raises:
        UserError: a pattern fits no layer.
    """
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))
    }
    if isinstance(targets, str):
        called = {name.rpartition(".")[2] for name, layer in layers.items() if isinstance(layer, nn.Linear)}
        return [name for name in layers if name.rpartition(".")[2] in called and name not in without]
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UserError(
                f"policy.lora.targets: '{pattern}' fits no linear layer.{did_you_mean(pattern, layers)} "
                "Give 'all-linear', or patterns such as 'language_model.*.q_proj'."
            )
    fitting = (name for name in layers if any(fnmatchcase(name, pattern) for pattern in targets))
    return [name for name in fitting if name not in without]


def attach(model: nn.Module, settings: dict[str, Any]) -> None:
    """Put a fresh adapter beside a model's weights; it alone is trained, in float32.

    Args:
        settings: of peft's ``LoraConfig``; ``target_modules`` are the names of ``adapted``.

    Raises:
        MissingDependency: peft is not installed.
    """
    peft = _peft("training an adapter")
    peft.inject_adapter_in_model(peft.LoraConfig(**settings), model)
    _in_full_precision(model)


def insert(model: nn.Module, folder: Path, *, trained: bool = False) -> None:
    """Put an adapter of a folder beside a model's weights.

    Args:
        trained: whether it is to be trained on; else nothing of the model is.

    Raises:
        MissingDependency: peft is not installed.
        CheckpointError: the adapter does not fit the model.
    """
    peft = _peft("keeping an adapter apart from the weights")
    from safetensors.torch import load_file

    lora.check_fit(folder, dict(model.named_parameters(remove_duplicate=False)))
    settings = peft.LoraConfig.from_pretrained(str(folder))
    settings.inference_mode = not trained
    try:
        peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        raise CheckpointError(f"{folder} does not fit its base: {error}") from error
    _in_full_precision(model)  # before the numbers come, which would be rounded to the base's type
    tensors = {
        name.removeprefix(lora.PREFIX): value
        for name, value in load_file(folder / lora.ADAPTER_WEIGHTS).items()
    }
    answer: Any = peft.set_peft_model_state_dict(model, tensors)
    if answer.unexpected_keys:
        raise CheckpointError(f"{folder}: the base has no place for '{answer.unexpected_keys[0]}'.")


def is_adapter(name: str) -> bool:
    """Tell whether a tensor of a model is an adapter's."""
    return ".lora_" in name


def adapter_names(model: nn.Module) -> list[str]:
    """Return the names of the tensors of a model's adapter; none where it has no adapter."""
    return [name for name, _ in model.named_parameters() if is_adapter(name)]


def _in_full_precision(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            parameter.data = parameter.data.float()


def _peft(purpose: str) -> Any:
    import openvla_toolkit.core.torchvision_cpu  # noqa: F401

    # peft imports it where it is installed, and it then tells of a kernel that it can do without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import peft
    except ImportError as error:
        raise MissingDependency(purpose, "peft", install="openvla-toolkit[lora]") from error
    return peft
