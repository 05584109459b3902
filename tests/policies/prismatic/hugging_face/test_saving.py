"""What the classes of ``transformers`` save, the toolkit loads; what does not fit, they do not load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.policies.prismatic.hugging_face import OpenVLAForActionPrediction
from tests.checkpoints.small_models import saved

PICTURE = np.random.default_rng(3).integers(0, 255, size=(32, 40, 3), dtype=np.uint8)
PARTS = ("dinosiglip-vit-so-224px", "vicuna-v15-7b", "fused-gelu-mlp")


def saved_by_the_classes(source: Path, target: Path) -> Path:
    AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32).save_pretrained(target)
    factory: Any = AutoProcessor
    factory.from_pretrained(source).save_pretrained(target)
    return target


def action(folder: Path) -> Any:
    policy: Any = load_policy(folder)
    return policy.predict_action(PICTURE, "lift")


def test_a_converted_model_acts_alike_after_the_classes_saved_it(tmp_path: Path) -> None:
    convert(saved(tmp_path / "first", *PARTS), tmp_path / "hf", to="hf", dtype="float32")
    once = saved_by_the_classes(tmp_path / "hf", tmp_path / "once")
    twice = saved_by_the_classes(once, tmp_path / "twice")
    for folder in (once, twice):
        config = json.loads((folder / "config.json").read_text())
        assert "openvla_toolkit" not in config
        assert load_policy(folder).config.prompt.name == "vicuna-v15"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(action(folder), action(tmp_path / "hf"))


def test_a_model_without_the_originals_ids_is_given_none(folder: Path, tmp_path: Path) -> None:
    once = saved_by_the_classes(folder, tmp_path / "once")
    twice = saved_by_the_classes(once, tmp_path / "twice")
    for place in (once, twice):
        config = json.loads((place / "config.json").read_text())
        assert not {"llm_backbone_id", "vision_backbone_id", "openvla_toolkit"} & config.keys()
        found: Any = load_policy(place)
        kept: Any = load_policy(folder)
        key = next(iter(kept.statistics))
        np.testing.assert_array_equal(
            found.predict_action(PICTURE, "lift", unnorm_key=key),
            kept.predict_action(PICTURE, "lift", unnorm_key=key),
        )


def test_a_folder_that_kept_the_block_and_lost_the_contract_is_a_published_one(tmp_path: Path) -> None:
    convert(saved(tmp_path / "first", *PARTS), tmp_path / "hf", to="hf", dtype="float32")
    expected = action(tmp_path / "hf")
    (tmp_path / "hf" / "contract.json").unlink()
    np.testing.assert_array_equal(action(tmp_path / "hf"), expected)


def test_a_policy_that_published_fields_cannot_describe_needs_its_contract(
    folder: Path, tmp_path: Path
) -> None:
    place = folder / "config.json"
    config = json.loads(place.read_text())
    config["openvla_toolkit"]["policy"]["chunk"] = 4
    place.write_text(json.dumps(config))
    saved_by_the_classes(folder, tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"contract\.json is missing"):
        load_policy(tmp_path / "again")


@pytest.mark.parametrize(
    ("missing", "added", "message"),
    [
        (("language_model.lm_head.weight",), (), r"1 expected and not found, first 'language_model.lm_head"),
        (("projector.fc1.bias", "projector.fc1.weight"), (), r"2 expected .*, first 'projector.fc1.bias'"),
        ((), ("projector.fc9.bias",), r"1 found and not expected, first 'projector.fc9.bias'"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(
    folder: Path, missing: tuple[str, ...], added: tuple[str, ...], message: str
) -> None:
    place = folder / "model.safetensors"
    tensors = {name: value for name, value in load_file(place).items() if name not in missing}
    save_file({**tensors, **{name: torch.zeros(2) for name in added}}, place, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"checkpoint: tensors do not fit config\.json: {message}"):
        AutoModelForImageTextToText.from_pretrained(folder)


def test_what_was_loaded_is_told_when_asked(folder: Path) -> None:
    factory: Any = AutoModelForImageTextToText
    model, info = factory.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, OpenVLAForActionPrediction)
    assert not info["missing_keys"]


def test_a_tensor_of_another_shape_is_refused_unless_that_is_asked_for(folder: Path) -> None:
    place = folder / "model.safetensors"
    tensors = load_file(place)
    tensors["language_model.lm_head.weight"] = torch.zeros(3, 3, dtype=torch.bfloat16)
    save_file(tensors, place, metadata={"format": "pt"})
    message = r"'language_model\.lm_head\.weight' has .*shape.*; config\.json makes it \[\d+, \d+\]"
    with pytest.raises(CheckpointError, match=message):
        AutoModelForImageTextToText.from_pretrained(folder)
    AutoModelForImageTextToText.from_pretrained(folder, ignore_mismatched_sizes=True)
