"""LoRA adapters in peft's format: read beside or into the weights of their base, and written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.checkpoints.formats.content import Content, field, read_json
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE
from openvla_toolkit.core.errors import CheckpointError, MissingDependency

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ADAPTER_WEIGHTS", "base_of", "insert", "merged", "write"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_dora", "modules_to_save", "layer_replication", "alora_invocation_tokens")


@dataclass(frozen=True, slots=True)
class _Pair:
    """One adapted weight: ``scale * up @ down`` is added to it."""

    down: Tensor
    up: Tensor
    scale: float


def base_of(folder: Path) -> str:
    """Return what an adapter was trained on: a folder (one relative to the adapter is resolved) or a hub id.

    Raises:
        CheckpointError: the adapter does not say.
    """
    place = folder / ADAPTER_FILE
    base: str = field(read_json(place), "base_model_name_or_path", str, place=place)
    return str(folder / base) if (folder / base).exists() else base


def merged(base: Content, folder: Path) -> Content:
    """Return the base's content with the adapter added to its weights as they are read.

    What is added to is float32, whatever the base has: rounding it before it is put to use would lose some
    of the adapter.

    Raises:
        CheckpointError: the adapter is damaged, of an unsupported kind, or does not fit the base.
    """
    return replace(base, tensors=lambda: _merged(base.tensors(), folder), place=f"{base.place} + {folder}")


def insert(model: nn.Module, folder: Path) -> None:
    """Put an adapter beside a model's weights, to be trained or switched off (peft's ``LoraLayer``).

    Raises:
        MissingDependency: peft is not installed.
        CheckpointError: the adapter does not fit the model.
    """
    import openvla_toolkit.core.torchvision_cpu  # noqa: F401

    try:
        import peft
    except ImportError as error:
        raise MissingDependency(
            "keeping an adapter apart from the weights", "peft", install="openvla-toolkit[lora]"
        ) from error
    from safetensors.torch import load_file

    settings = peft.LoraConfig.from_pretrained(str(folder))
    settings.inference_mode = True
    try:
        peft.inject_adapter_in_model(settings, model)
    except ValueError as error:
        raise CheckpointError(f"{folder} does not fit its base: {error}") from error
    tensors = {
        name.removeprefix(_PREFIX): value for name, value in load_file(folder / ADAPTER_WEIGHTS).items()
    }
    answer: Any = peft.set_peft_model_state_dict(model, tensors)
    if answer.unexpected_keys:
        raise CheckpointError(f"{folder}: the base has no place for '{answer.unexpected_keys[0]}'.")


def write(folder: Path, tensors: Mapping[str, Tensor], *, base: str, settings: Mapping[str, Any]) -> None:
    """Write an adapter so that peft, and the original's fine-tuning script, read it.

    Args:
        tensors: a module's state with an adapter inside; all but the adapter's is left out.
        base: folder or hub id of what it belongs to.
        settings: peft's ``LoraConfig`` as plain data (``r``, ``lora_alpha``, ``target_modules``, ...).

    Raises:
        CheckpointError: there is no adapter among the tensors.
    """
    from openvla_toolkit.checkpoints.tensors import write_tensors

    own = {
        f"{_PREFIX}{name.replace('.default.', '.')}": value
        for name, value in tensors.items()
        if ".lora_" in name
    }
    if not own:
        raise CheckpointError(f"nothing to write to {folder}: the model has no LoRA adapter.")
    config = {
        "peft_type": "LORA",
        "bias": "none",
        "fan_in_fan_out": False,
        "task_type": None,
        **settings,
        "base_model_name_or_path": base,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / ADAPTER_WEIGHTS, own)
    (folder / ADAPTER_FILE).write_text(json.dumps(config, indent=2, sort_keys=True, default=sorted) + "\n")


def _merged(tensors: Iterable[tuple[str, Tensor]], folder: Path) -> Iterator[tuple[str, Tensor]]:
    pairs = _pairs(folder)
    for name, value in tensors:
        pair = pairs.pop(name.removesuffix(".weight"), None) if name.endswith(".weight") else None
        yield name, value if pair is None else _added(value, pair, name=name, folder=folder)
    if pairs:
        raise CheckpointError(
            f"{folder}: the base has no weight for {len(pairs)} adapted layer(s), first '{min(pairs)}'."
        )


def _added(value: Tensor, pair: _Pair, *, name: str, folder: Path) -> Tensor:
    down, up = pair.down.float().flatten(1), pair.up.float().flatten(1)  # convolutions have kernels behind
    rows, columns = value.shape[0], value[0].numel()
    if up.shape[0] != rows or down.shape[1] != columns or up.shape[1] != down.shape[0]:
        raise CheckpointError(
            f"{folder}: '{name}' of the base is [{rows}, {columns}]; the adapter makes it "
            f"[{up.shape[0]}, {down.shape[1]}]."
        )
    return value.float() + pair.scale * (up @ down).reshape(value.shape)


def _pairs(folder: Path) -> dict[str, _Pair]:
    """Return layer -> what is added to its weight."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = folder / ADAPTER_FILE
    config = read_json(place)
    if field(config, "peft_type", str, place=place) != "LORA":
        raise CheckpointError(f"{place}: 'peft_type' is '{config['peft_type']}'; LORA is expected.")
    if odd := [key for key in _UNSUPPORTED if config.get(key)]:
        raise CheckpointError(f"{place}: '{odd[0]}' is not supported; merge the adapter with peft.")
    try:
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / ADAPTER_WEIGHTS} cannot be read: {error}.") from error
    halves: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        layer, _, half = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B"):
            raise CheckpointError(
                f"{folder / ADAPTER_WEIGHTS}: '{name}' is no tensor of a plain LoRA adapter."
            )
        halves.setdefault(layer, {})[half] = value
    if single := [layer for layer, both in halves.items() if len(both) != 2]:
        raise CheckpointError(
            f"{folder / ADAPTER_WEIGHTS}: half of '{single[0]}' (lora_A or lora_B) is missing."
        )
    return {
        layer: _Pair(both["lora_A"], both["lora_B"], _scale(config, len(both["lora_A"]), place))
        for layer, both in halves.items()
    }


def _scale(config: Mapping[str, Any], rank: int, place: Path) -> float:
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise CheckpointError(f"{place}: ranks that differ by layer are not supported; merge it with peft.")
    alpha = float(field(config, "lora_alpha", (int, float), place=place))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
