"""Two checkpoints compared: equal ones are, and the first thing that differs is named with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openvla_toolkit.checkpoints.verify import Finding, observations, verify
from tests.checkpoints.small_models import saved


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return saved(tmp_path / "a", projector="linear"), saved(tmp_path / "b", projector="linear")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def with_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_equal_checkpoints_are(pair: tuple[Path, Path]) -> None:
    findings = verify(*pair, count=2)
    assert all(finding.same for finding in findings), findings
    names = ["tensors", "input_ids", "pixel_values", "image_features", "logits"]
    assert [finding.what for finding in findings] == [*names, "tokens of toy", "actions of toy"]


def test_other_numbers_are_told_with_their_place(pair: tuple[Path, Path]) -> None:
    with_tensors(pair[1], lambda tensors: tensors["projector.fc1.bias"].add_(0.5))
    findings = by_name(verify(*pair, count=1))
    assert "1 differ in their numbers, most 'projector.fc1.bias' by 0.5" in findings["tensors"].text
    assert findings["pixel_values"].same
    assert not findings["image_features"].same
    assert "observation 0: 4096 of 4096 numbers differ, most at [" in findings["image_features"].text


def test_other_colours_and_statistics_are_told(pair: tuple[Path, Path]) -> None:
    contract = json.loads((pair[1] / "contract.json").read_text())
    contract["images"]["means"][0][1] += 0.01
    (pair[1] / "contract.json").write_text(json.dumps(contract))
    statistics = json.loads((pair[1] / "dataset_statistics.json").read_text())
    (pair[1] / "dataset_statistics.json").write_text(json.dumps({"other": statistics["toy"]}))
    findings = by_name(verify(*pair, count=1))
    assert not findings["pixel_values"].same
    assert findings["input_ids"].same
    assert "only the first has: actions of toy, tokens of toy" in findings["statistics"].text


def test_a_tensor_of_one_alone_or_of_another_shape_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = saved(tmp_path / "c", "siglip-vit-so400m", "llama2-7b-pure", "gelu-mlp")
    finding = verify(pair[0], other, count=1)[0]
    assert not finding.same
    assert "'projector.fc2.bias'" in finding.text
    wider = saved(tmp_path / "d", "dinov2-vit-l", "llama2-7b-pure", "linear")
    assert not verify(pair[0], wider, count=1)[0].same


def test_what_is_looked_at_is_the_same_every_time() -> None:
    first, second = (observations(("primary",), 5, sizes={}) for _ in range(2))
    assert all((a.images["primary"] == b.images["primary"]).all() for a, b in zip(first, second, strict=True))
    assert len({one.images["primary"].shape for one in first}) == 4


def test_a_camera_of_known_size_is_shown_in_that_size(pair: tuple[Path, Path]) -> None:
    contract = json.loads((pair[1] / "contract.json").read_text())
    contract["robot"]["cameras"] = {"primary": {"height": 48, "width": 64}}
    (pair[1] / "contract.json").write_text(json.dumps(contract))
    for order in (pair, pair[::-1]):  # the other one's contract tells nothing
        findings = verify(*order, count=2)
        assert all(finding.same for finding in findings), findings
