"""LoRA adapters in peft's format: merged into the weights of their base, and written."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.checkpoints.formats.content import Content, field, read_json
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE
from openvla_toolkit.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ADAPTER_WEIGHTS", "PREFIX", "base_of", "check_fit", "layers_of", "merged", "write"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts in front of a layer's name."""
_MAGNITUDE = "lora_magnitude_vector"
_UNSUPPORTED = ("modules_to_save", "layer_replication", "alora_invocation_tokens")


@dataclass(frozen=True, slots=True)
class _Pair:
    """One adapted weight: ``scale * up @ down`` is added to it.

    DoRA's ``magnitude`` is the length that every row of the sum is then brought to.
    """

    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None


def base_of(folder: Path) -> str:
    """Return what an adapter was trained on: a folder (one relative to the adapter is resolved) or a hub id.

    Raises:
        CheckpointError: the adapter does not say.
    """
    place = folder / ADAPTER_FILE
    base: str = field(read_json(place), "base_model_name_or_path", str, place=place)
    return str(folder / base) if (folder / base).exists() else base


def layers_of(folder: Path) -> set[str]:
    """Return the names of the layers that an adapter belongs to.

    Raises:
        CheckpointError: it is damaged, or of an unsupported kind.
    """
    return set(_pairs(folder))


def merged(base: Content, folder: Path) -> Content:
    """Return the base's content with the adapter added to its weights as they are read.

    What is added to is float32, whatever the base has: rounding it before it is put to use would lose some
    of the adapter.

    Raises:
        CheckpointError: the adapter is damaged, of an unsupported kind, or does not fit the base.
    """
    return replace(
        base,
        tensors=lambda: _merged(base.tensors(), folder),
        shapes=lambda: _outlined(base.outlines(), folder),
        place=f"{base.place} + {folder}",
    )


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

    own = {_stored(name): value for name, value in tensors.items() if ".lora_" in name}
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


def check_fit(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Check that an adapter is for layers that are there, and of their shapes.

    Raises:
        CheckpointError: it is damaged, of an unsupported kind, or does not fit; names the layer.
    """
    pairs = _pairs(folder)
    _check_none_left([layer for layer in pairs if f"{layer}.weight" not in weights], folder)
    for layer, pair in pairs.items():
        name = f"{layer}.weight"
        _check_shape(weights[name], pair, name=name, folder=folder)


def _stored(name: str) -> str:
    """Return the name under which peft stores a tensor of an adapter."""
    stored = f"{PREFIX}{name.replace('.default.', '.')}"
    return stored.removesuffix(".weight") if _MAGNITUDE in stored else stored


def _merged(tensors: Iterable[tuple[str, Tensor]], folder: Path) -> Iterator[tuple[str, Tensor]]:
    pairs = _pairs(folder)
    for name, value in tensors:
        pair = pairs.pop(name.removesuffix(".weight"), None) if name.endswith(".weight") else None
        yield name, value if pair is None else _added(value, pair, name=name, folder=folder)
    _check_none_left(pairs, folder)


def _outlined(outlines: Mapping[str, Tensor], folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield what ``_merged`` will, without merging."""
    pairs = _pairs(folder)
    for name, value in outlines.items():
        yield name, value.float() if name.removesuffix(".weight") in pairs else value


def _check_none_left(layers: Collection[str], folder: Path) -> None:
    if layers:
        raise CheckpointError(
            f"{folder}: the base has no weight for {len(layers)} adapted layer(s), first '{min(layers)}'."
        )


def _check_shape(value: Tensor, pair: _Pair, *, name: str, folder: Path) -> None:
    down, up = pair.down.flatten(1), pair.up.flatten(1)
    rows, columns = value.shape[0], value[0].numel()
    if up.shape[0] != rows or down.shape[1] != columns or up.shape[1] != down.shape[0]:
        raise CheckpointError(
            f"{folder}: '{name}' of the base is [{rows}, {columns}]; the adapter makes it "
            f"[{up.shape[0]}, {down.shape[1]}]."
        )


def _added(value: Tensor, pair: _Pair, *, name: str, folder: Path) -> Tensor:
    _check_shape(value, pair, name=name, folder=folder)
    down, up = pair.down.float().flatten(1), pair.up.float().flatten(1)  # convolutions have kernels behind
    whole = value.float() + pair.scale * (up @ down).reshape(value.shape)
    if pair.magnitude is None:
        return whole
    lengths: Tensor = whole.flatten(1).norm(dim=1)
    ratio = pair.magnitude.float().flatten() / lengths
    return whole * ratio.reshape(-1, *[1] * (whole.ndim - 1))


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
    parts = ("lora_A", "lora_B", *([_MAGNITUDE] if config.get("use_dora") else []))
    halves: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        layer, _, half = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if half not in parts:
            raise CheckpointError(
                f"{folder / ADAPTER_WEIGHTS}: '{name}' is no tensor of a {' + '.join(parts)} adapter."
            )
        halves.setdefault(layer, {})[half] = value
    for layer, found in halves.items():
        if missing := [part for part in parts if part not in found]:
            raise CheckpointError(f"{folder / ADAPTER_WEIGHTS}: '{missing[0]}' of '{layer}' is missing.")
    return {
        layer: _Pair(
            found["lora_A"],
            found["lora_B"],
            _scale(config, len(found["lora_A"]), place),
            found.get(_MAGNITUDE),
        )
        for layer, found in halves.items()
    }


def _scale(config: Mapping[str, Any], rank: int, place: Path) -> float:
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise CheckpointError(f"{place}: ranks that differ by layer are not supported; merge it with peft.")
    if rank != (stated := field(config, "r", int, place=place)):
        raise CheckpointError(f"{place}: 'r' is {stated}; the tensors beside it have rank {rank}.")
    alpha = float(field(config, "lora_alpha", (int, float), place=place))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
