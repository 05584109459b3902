"""LoRA adapters: merged as peft merges them, kept apart, written for peft, refused when they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from openvla_toolkit.checkpoints.adapters import insert
from openvla_toolkit.checkpoints.formats import lora
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError, MissingFile
from tests.checkpoints.small_models import STATISTICS, saved, small_policy

PICTURE = np.random.default_rng(0).integers(0, 255, size=(40, 60, 3), dtype=np.uint8)
SETTINGS: dict[str, Any] = {"r": 2, "lora_alpha": 6, "target_modules": ["proj", "q_proj", "fc1", "lm_head"]}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Write a base and, beside it, a random adapter made by peft; convolutions are among its targets."""
    module: Any = small_policy().module
    saved(tmp_path / "base")
    torch.manual_seed(1)
    peft.inject_adapter_in_model(peft.LoraConfig(**SETTINGS, init_lora_weights=False), module)
    lora.write(tmp_path / "adapter", module.state_dict(), base="../base", settings=SETTINGS)
    return tmp_path / "adapter"


def changed(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_merged_and_apart_are_the_same_policy(adapter: Path) -> None:
    merged, apart = load_policy(adapter), load_policy(adapter, merge=False)
    plain = load_policy(adapter.parent / "base")
    assert merged.module.state_dict().keys() == plain.module.state_dict().keys()
    assert any(".lora_A." in name for name in apart.module.state_dict())
    logits = [_logits(policy) for policy in (merged, apart, plain)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert (logits[0] - logits[2]).abs().max() > 1e-3
    for policy in (merged, apart):
        assert policy.predict_action(PICTURE, "lift").shape == (3,)  # type: ignore[attr-defined]


def _logits(policy: Any) -> torch.Tensor:
    from openvla_toolkit.core.types import Observation

    seen = policy.activations(Observation(images={"primary": PICTURE}, instruction="lift"))
    return torch.from_numpy(seen["logits"])


@pytest.mark.parametrize(("by_root", "dora"), [(False, False), (True, False), (False, True), (True, True)])
def test_weights_are_merged_as_peft_merges_them(adapter: Path, by_root: bool, dora: bool) -> None:
    changed(adapter / "adapter_config.json", use_rslora=by_root)
    if dora:
        _with_magnitudes(adapter)
    module: Any = small_policy().module
    insert(module, adapter)
    merged = load_policy(adapter).module.state_dict()
    layers = [layer for layer in module.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]
    names = {layer: name for name, layer in module.named_modules()}
    assert {type(layer.get_base_layer()) for layer in layers} == {torch.nn.Linear, torch.nn.Conv2d}
    for layer in layers:
        assert layer.scaling["default"] == pytest.approx(6 / (2**0.5 if by_root else 2))
        layer.merge()
        expected = layer.get_base_layer().weight
        torch.testing.assert_close(merged[f"{names[layer]}.weight"], expected, rtol=1e-6, atol=1e-6)


def _with_magnitudes(adapter: Path) -> None:
    """Make an adapter one of DoRA's, with random lengths of rows; peft shapes those of convolutions so."""
    changed(adapter / "adapter_config.json", use_dora=True)
    tensors = {
        name: value.clone() for name, value in load_file(adapter / "adapter_model.safetensors").items()
    }
    for name, value in list(tensors.items()):
        if name.endswith(".lora_B.weight"):
            lengths = 0.5 + torch.rand(len(value))
            shaped = lengths if value.ndim == 2 else lengths.reshape(1, -1, 1, 1)
            tensors[name.replace(".lora_B.weight", ".lora_magnitude_vector")] = shaped
    save_file(tensors, adapter / "adapter_model.safetensors")


def test_a_base_of_ones_own_takes_precedence(adapter: Path, tmp_path: Path) -> None:
    changed(adapter / "adapter_config.json", base_model_name_or_path="nobody/nothing")
    other = saved(tmp_path / "other")
    assert read_content(adapter, base=other).place == f"{other} + {adapter}"


def test_an_adapter_kept_apart_is_saved_alone_and_found_again(adapter: Path, tmp_path: Path) -> None:
    apart, again = load_policy(adapter, merge=False), tmp_path / "again"
    apart.save(again)
    assert not (again / "model.safetensors").exists()
    for file in ("adapter_model.safetensors", "contract.json", "dataset_statistics.json", "tokenizer.json"):
        assert (again / file).is_file()
    stored, written = (load_file(place / "adapter_model.safetensors") for place in (adapter, again))
    assert stored.keys() == written.keys()
    assert all(torch.equal(stored[name], written[name]) for name in stored)
    found = load_policy(again)
    assert found.contract == apart.contract
    assert found.statistics.keys() == apart.statistics.keys()
    torch.testing.assert_close(_logits(found), _logits(apart), rtol=1e-4, atol=1e-4)
    assert peft.LoraConfig.from_pretrained(str(again)).lora_alpha == 6


def test_a_base_that_is_gone_is_named(adapter: Path) -> None:
    changed(adapter / "adapter_config.json", base_model_name_or_path="runs/gone/away")
    with pytest.raises(MissingFile, match=r"is an adapter of 'runs/gone/away'.* give it as 'base'"):
        load_policy(adapter)


def test_there_must_be_an_adapter_to_write(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the model has no LoRA adapter"):
        lora.write(tmp_path / "new", small_policy().module.state_dict(), base="x", settings=SETTINGS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "'peft_type' is 'IA3'; LORA is expected"),
        ({"use_dora": True}, "'lora_magnitude_vector' of .* is missing"),
        ({"modules_to_save": ["projector"]}, "'modules_to_save' is not supported"),
        ({"lora_alpha": "big"}, "'lora_alpha' is 'big'; int or float is expected"),
        ({"r": 7}, "'r' is 7; the tensors beside it have rank 2"),
        ({"rank_pattern": {"q_proj": 3}}, "ranks that differ by layer"),
        ({"base_model_name_or_path": None}, "'base_model_name_or_path' is None; str is expected"),
    ],
)
def test_an_adapter_of_another_kind_is_named(adapter: Path, fields: dict[str, Any], message: str) -> None:
    changed(adapter / "adapter_config.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        load_policy(adapter)
    with pytest.raises(CheckpointError, match=message):
        load_policy(adapter, merge=False)


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (
            "projector.fc1",
            {"lora_A": torch.zeros(2, 7), "lora_B": torch.zeros(16, 2)},
            "the adapter makes it",
        ),
        (
            "projector.fc9",
            {"lora_A": torch.zeros(2, 7), "lora_B": torch.zeros(16, 2)},
            "first 'projector.fc9'",
        ),
        ("projector.fc9", {"lora_A": torch.zeros(2, 7)}, r"'lora_B' of 'projector\.fc9' is missing"),
        (
            "projector.fc1",
            {"lora_magnitude_vector": torch.zeros(2)},
            r"no tensor of a lora_A \+ lora_B adapter",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    adapter: Path, layer: str, change: dict[str, torch.Tensor], message: str
) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    tensors |= {f"base_model.model.{layer}.{half}.weight": value for half, value in change.items()}
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=message):
        load_policy(adapter)
    with pytest.raises(CheckpointError, match=message):
        load_policy(adapter, merge=False)


@pytest.mark.parametrize("content", [None, b"xx"])
def test_damaged_weights_are_named_however_they_are_used(adapter: Path, content: bytes | None) -> None:
    file = adapter / "adapter_model.safetensors"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for merge in (True, False):
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors cannot be read"):
            load_policy(adapter, merge=merge)


def test_a_base_may_be_given_where_the_adapters_own_is_not_there(adapter: Path) -> None:
    before = load_policy(adapter)
    changed(adapter / "adapter_config.json", base_model_name_or_path="/somewhere/else")
    with pytest.raises(MissingFile, match="/somewhere/else"):
        load_policy(adapter)
    after = load_policy(adapter, base=str(adapter.parent / "base"))
    torch.testing.assert_close(_logits(after), _logits(before))


def test_statistics_beside_an_adapter_are_added_to_its_bases(adapter: Path) -> None:
    (adapter / "dataset_statistics.json").write_text(json.dumps({"own": STATISTICS["toy"]}))
    for merge in (True, False):
        assert set(load_policy(adapter, merge=merge).statistics) == {"toy", "own"}
