"""What conversion writes from the kit's training runs is what the original's wrote, and back again."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.tensors import read_tensors
from openvla_toolkit.checkpoints.verify import verify
from openvla_toolkit.language_models.tokenizer import open_tokenizer
from tests.conformance import kit

RUNS = [(model, run) for model in kit.models() for run in kit.run_folders(model)]
each_run = pytest.mark.parametrize(("model", "run"), RUNS, ids=[f"{model}-{run.name}" for model, run in RUNS])
each_model = pytest.mark.parametrize("model", kit.models())
PLACE = TemporaryDirectory(prefix="openvla-converted-")
PASSING = {"transformers_version"}
"""Fields that say who wrote the file."""


@cache
def converted(source: Path, to: Literal["hf", "prismatic"]) -> Path:
    target = Path(PLACE.name) / to / source.relative_to(kit.root())
    convert(source, target, to=to)
    return target


def original(model: str) -> Path:
    return kit.root() / "model" / model / "hf"


def content(place: Path) -> Any:
    return json.loads(place.read_text(encoding="utf-8"))


def native_tensors(run: Path) -> dict[str, Tensor]:
    parts = torch.load(run / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"]
    return {f"{module}.{key}": value for module, part in parts.items() for key, value in part.items()}


def missing(expected: Any, found: Any, place: str = "") -> list[str]:
    """Return the places at which something recorded is not found as it was."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = expected.keys() - PASSING
        return [lack for key in keys for lack in missing(expected[key], found.get(key), f"{place}.{key}")]
    return [] if expected == found else [f"{place}: {expected!r} became {found!r}"]


@each_run
def test_tensors(model: str, run: Path) -> None:
    expected, made = dict(read_tensors(original(model))), dict(read_tensors(converted(run, "hf")))
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name].dtype != expected[name].dtype] == []
    assert [name for name in made if not torch.equal(made[name], expected[name])] == []


@each_run
@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "dataset_statistics.json", "generation_config.json"]
)
def test_settings(model: str, run: Path, name: str) -> None:
    assert missing(content(original(model) / name), content(converted(run, "hf") / name)) == []


@each_run
def test_files(model: str, run: Path) -> None:
    expected = {path.name for path in original(model).iterdir()}
    assert expected - {path.name for path in converted(run, "hf").iterdir()} == set()


@each_run
def test_tokenizer(model: str, run: Path) -> None:
    ours, theirs = (open_tokenizer(str(place)) for place in (converted(run, "hf"), original(model)))
    # The original's tokenizers 0.19 reads merges only as it wrote them: as strings.
    assert content(converted(run, "hf") / "tokenizer.json") == content(original(model) / "tokenizer.json")
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.special_tokens_map == theirs.special_tokens_map
    for case in kit.cases("prompts/processor_ids.json"):
        assert ours(case["text"]).input_ids == case["input_ids"]
        assert ours.decode(case["input_ids"]) == case["decoded"]


@each_run
def test_both_forms_act_alike(model: str, run: Path) -> None:
    findings = verify(converted(run, "hf"), original(model), count=2)
    assert [finding.text for finding in findings if not finding.same] == []
    assert {finding.what for finding in findings} >= {"tensors", "pixel_values", "logits"}


@each_model
def test_back_to_a_training_run(model: str) -> None:
    made = native_tensors(converted(original(model), "prismatic"))
    mapped = kit.recorded(f"model/{model}/key_map.json")["map"]
    stored = dict(read_tensors(original(model)))
    assert made.keys() == {f"{entry['module']}.{entry['native_key']}" for entry in mapped.values()}
    for name, entry in mapped.items():
        assert torch.equal(made[f"{entry['module']}.{entry['native_key']}"], stored[name])


@each_run
def test_settings_of_the_training_run(model: str, run: Path) -> None:
    back = converted(original(model), "prismatic")
    expected, made = content(run / "config.json"), content(back / "config.json")
    assert made["vla"]["base_vlm"] == expected["vla"]["base_vlm"]
    assert missing(content(run / "dataset_statistics.json"), content(back / "dataset_statistics.json")) == []


@each_model
def test_there_and_back_again_is_the_same_policy(model: str, tmp_path: Path) -> None:
    convert(converted(original(model), "prismatic"), tmp_path / "hf", to="hf")
    expected, made = dict(read_tensors(original(model))), dict(read_tensors(tmp_path / "hf"))
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in made)
