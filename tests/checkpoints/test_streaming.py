"""Writing and comparing hold one tensor at a time, whatever the format: models are larger than memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openvla_toolkit.checkpoints import verify
from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.formats import hugging_face_files, lora
from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.tensors import read_tensors, write_sharded
from openvla_toolkit.checkpoints.tokenizer_files import read_tokenizer
from openvla_toolkit.core.errors import CheckpointError
from tests.checkpoints.small_models import saved


class Watch:
    """Counts how many of the tensors that went by are alive."""

    def __init__(self) -> None:
        self.most = 0
        self._seen: list[weakref.ref[Tensor]] = []

    def __call__(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, value in tensors:
            own = value.clone()
            self._seen = [one for one in self._seen if one() is not None] + [weakref.ref(own)]
            self.most = max(self.most, len(self._seen))
            yield name, own

    def content(self, content: Content) -> Content:
        return replace(content, tensors=lambda: self(content.tensors()))


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Write the same model as a folder, a training run, and a base with an adapter."""
    folder = saved(tmp_path / "folder")
    convert(folder, tmp_path / "run", to="prismatic")
    tensors: dict[str, Tensor] = {}
    for name, value in read_tensors(folder):
        if name in ("projector.fc1.weight", "projector.fc2.weight"):
            layer, (rows, columns) = name.removesuffix(".weight"), value.shape
            tensors[f"{layer}.lora_A.default.weight"] = torch.ones(2, columns)
            tensors[f"{layer}.lora_B.default.weight"] = torch.ones(rows, 2)
    settings: dict[str, Any] = {"r": 2, "lora_alpha": 4, "target_modules": ["fc1", "fc2"]}
    lora.write(tmp_path / "adapter", tensors, base="../folder", settings=settings)
    return {name: tmp_path / name for name in ("folder", "run", "adapter")}


@pytest.mark.parametrize("name", ["folder", "run", "adapter"])
def test_converting_holds_one_tensor_at_a_time(sources: dict[str, Path], name: str, tmp_path: Path) -> None:
    content, watch = read_content(sources[name]), Watch()
    (tmp_path / "new").mkdir()
    tokenizer = read_tokenizer(content.tokenizer, pad_token=content.pad_token)
    hugging_face_files.write(
        tmp_path / "new",
        watch.content(content),
        tokenizer=tokenizer,
        dtype=torch.bfloat16,
        shard_bytes=50_000,
    )
    assert watch.most <= 2  # the one that is written, and the next one, which is being read
    expected = {key: value.bfloat16() for key, value in content.tensors()}
    assert all(torch.equal(value, expected.pop(key)) for key, value in read_tensors(tmp_path / "new"))
    assert not expected


def test_an_adapter_is_outlined_without_being_merged(
    sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = read_content(sources["adapter"])
    merged = {name: (value.shape, value.dtype) for name, value in content.tensors()}
    monkeypatch.setattr(torch.Tensor, "__matmul__", None)  # there is no merging without it
    outlines = content.outlines()
    assert {name: (value.shape, value.dtype) for name, value in outlines.items()} == merged
    assert all(value.is_meta for value in outlines.values())


def test_comparing_holds_one_pair_at_a_time(sources: dict[str, Path]) -> None:
    watch = Watch()
    finding = verify._tensors(*(watch.content(read_content(sources[name])) for name in ("adapter", "folder")))
    assert "2 differ in their numbers" in finding.text
    assert watch.most <= 6  # of 116: the pair that is compared, and the next one, which is being read


def test_tensors_in_another_order_are_paired() -> None:
    first = {name: torch.tensor(number) for number, name in enumerate("abcd")}
    second = {name: first[name] + 10 for name in "bdca"}
    pairs = list(verify._paired(first.items(), second.items()))
    assert sorted(name for name, _, _ in pairs) == list("abcd")
    assert all(other == one + 10 and one == first[name] for name, one, other in pairs)


@pytest.mark.parametrize(
    "coming", [{}, {"b": torch.ones(2)}, {"a": torch.ones(3)}, {"a": torch.ones(2), "b": torch.ones(2)}]
)
def test_tensors_that_are_not_as_outlined_are_refused(tmp_path: Path, coming: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="outlined"):
        write_sharded(tmp_path, {"a": torch.ones(2)}, coming.items())
