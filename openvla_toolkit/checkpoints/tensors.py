"""Tensors in safetensors files, one at a time: no second copy of a model is ever held."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from openvla_toolkit.checkpoints.layout import WEIGHTS_FILE
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.core.storage import storage_errors

__all__ = ["load_into", "read_tensors", "write_sharded", "write_tensors"]

_INDEX_FILE = WEIGHTS_FILE + ".index.json"
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None) -> None:
    """Write a safetensors file tensor by tensor; ``dtype`` converts those of floating point on the way.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    kinds = {
        name: dtype if dtype and value.is_floating_point() else value.dtype for name, value in tensors.items()
    }
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, value in tensors.items():
        end = offset + value.numel() * kinds[name].itemsize
        header[name] = {
            "dtype": _CODES[kinds[name]],
            "shape": list(value.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with storage_errors(path), path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, value in tensors.items():
            whole = value.detach().to("cpu", kinds[name]).contiguous().reshape(-1)
            file.write(whole.view(torch.uint8).numpy().data)


def write_sharded(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write a checkpoint as one file, or as several of at most ``shard_bytes`` with an index beside.

    A tensor that is larger by itself gets a file of its own.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    shards: list[dict[str, Tensor]] = [{}]
    total = filled = 0
    for name, value in tensors.items():
        size = value.numel() * (dtype if dtype and value.is_floating_point() else value.dtype).itemsize
        if shard_bytes is not None and filled and filled + size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = value
        total, filled = total + size, filled + size
    if len(shards) == 1:
        write_tensors(folder / WEIGHTS_FILE, tensors, dtype=dtype)
        return
    stem = WEIGHTS_FILE.removesuffix(".safetensors")
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / file, shard, dtype=dtype)
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    with storage_errors(folder):
        (folder / _INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of every tensor of a checkpoint, whole or sharded.

    Raises:
        CheckpointError: a file is missing, cut short or damaged.
    """
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}. Copy or download it again.") from error


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / _INDEX_FILE).is_file():
        raise CheckpointError(f"{folder} has neither {WEIGHTS_FILE} nor {_INDEX_FILE}.")
    try:
        shards: Iterable[str] = json.loads((folder / _INDEX_FILE).read_text())["weight_map"].values()
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / _INDEX_FILE} is damaged: {error!r}.") from error
    files = [folder / name for name in sorted(set(shards))]
    if missing := [path for path in files if not path.is_file()]:
        raise CheckpointError(
            f"{missing[0]} is missing; the index names {len(files)} files. Download it again."
        )
    return files


def load_into(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype,
    source: str,
    tied: Iterable[str] = (),
) -> None:
    """Replace every parameter and buffer of a module, one tensor at a time; ``meta`` ones become real.

    Args:
        dtype: of floating-point tensors in memory.
        source: how the checkpoint is called in errors.
        tied: names that share another tensor and are not in the checkpoint.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape; names it, what was expected and
        found.
    """
    expected = dict(module.state_dict(keep_vars=True))
    for name in tied:
        expected.pop(name, None)
    unknown: list[str] = []
    for name, value in tensors:
        place = expected.pop(name, None)
        if place is None:
            unknown.append(name)
        elif place.shape != value.shape:
            raise CheckpointError(
                f"{source}: '{name}' has shape {list(value.shape)}; the settings make it {list(place.shape)}."
            )
        else:
            _put(
                module, name, value.to(dtype if value.is_floating_point() else value.dtype, copy=True), place
            )
    _complain(source, missing=sorted(expected), unknown=sorted(unknown))


def _put(module: nn.Module, name: str, value: Tensor, place: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if isinstance(place, nn.Parameter):
        value = nn.Parameter(value, requires_grad=place.requires_grad)
    setattr(owner, leaf, value)


def _complain(source: str, *, missing: list[str], unknown: list[str]) -> None:
    problems = [
        f"{len(names)} {what}, first '{names[0]}'"
        for what, names in (("expected and not found", missing), ("found and not expected", unknown))
        if names
    ]
    if problems:
        raise CheckpointError(f"{source}: tensors do not fit the settings: {'; '.join(problems)}.")
