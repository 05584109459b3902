"""Tensors on disk: readable by safetensors itself, and every misfit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from openvla_toolkit.checkpoints.tensors import load_into, read_tensors, write_tensors
from openvla_toolkit.core.errors import CheckpointError

TENSORS = {
    "half": torch.randn(3, 5, dtype=torch.bfloat16),
    "strided": torch.randn(4, 6).T,
    "scalar": torch.tensor(3),
    "flags": torch.tensor([True, False]),
    "empty": torch.empty(0, 2),
}


def module() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def weights() -> dict[str, torch.Tensor]:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def test_what_is_written_is_what_safetensors_reads(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", TENSORS)
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    assert all(torch.equal(value, TENSORS[name]) for name, value in read_tensors(tmp_path))


def test_only_floating_point_is_converted(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", TENSORS, dtype=torch.float16)
    kinds = {name: value.dtype for name, value in read_tensors(tmp_path)}
    assert kinds["half"] == kinds["strided"] == torch.float16
    assert (kinds["scalar"], kinds["flags"]) == (torch.int64, torch.bool)


def test_shards_are_read_one_after_the_other(tmp_path: Path) -> None:
    whole = weights()
    names = sorted(whole)
    shards = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, members in shards.items():
        save_file({name: whole[name] for name in members}, tmp_path / file)
    index = {"weight_map": {name: file for file, members in shards.items() for name in members}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    filled = module()
    load_into(filled, read_tensors(tmp_path), dtype=torch.float32, source="here")
    assert all(torch.equal(value, whole[name]) for name, value in filled.state_dict().items())
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors is missing; the index names 2 files"):
        list(read_tensors(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
        list(read_tensors(tmp_path))


def test_empty_modules_become_real_and_keep_what_may_learn() -> None:
    filled = module()
    filled[0].bias.requires_grad_(False)  # type: ignore[index]
    load_into(filled, weights().items(), dtype=torch.bfloat16, source="here")
    assert filled[0].weight.requires_grad  # type: ignore[index]
    assert not filled[0].bias.requires_grad  # type: ignore[index]
    assert filled[0].weight.dtype == torch.bfloat16  # type: ignore[index]
    assert filled[1].num_batches_tracked.dtype == torch.int64  # type: ignore[index]
    assert not any(value.is_meta for value in filled.state_dict().values())


def test_another_shape_is_named_with_both_sides() -> None:
    wrong = {**weights(), "0.weight": torch.zeros(3, 4)}
    with pytest.raises(CheckpointError, match=r"here: '0\.weight' has shape \[3, 4\]; .* \[3, 2\]"):
        load_into(module(), wrong.items(), dtype=torch.float32, source="here")


def test_missing_and_unknown_tensors_are_counted_and_named() -> None:
    wrong = {("2.bias" if name == "0.bias" else name): value for name, value in weights().items()}
    with pytest.raises(
        CheckpointError, match=r"1 expected and not found, first '0\.bias'; 1 found .* '2\.bias'"
    ):
        load_into(module(), wrong.items(), dtype=torch.float32, source="here")


def test_a_tied_name_may_be_missing() -> None:
    some = {name: value for name, value in weights().items() if name != "0.bias"}
    load_into(module(), some.items(), dtype=torch.float32, source="here", tied=["0.bias"])


@pytest.mark.parametrize("kept", [4, 100, -8])
def test_a_file_cut_short_is_an_error_at_every_place(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        list(read_tensors(tmp_path))


def test_a_folder_without_tensors_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"
    ):
        list(read_tensors(tmp_path))
