"""Published folders are read without the toolkit's own files; what is wrong with one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError, ContractMismatch
from tests.checkpoints.small_models import as_the_original, saved

PICTURE = np.random.default_rng(0).integers(0, 255, size=(40, 60, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts = ("dinosiglip-vit-so-224px", "llama2-7b-pure", "fused-gelu-mlp")
    return as_the_original(saved(tmp_path / "published", *parts, resize="letterbox"))


def changed(file: Path, **fields: Any) -> None:
    """Put other values into a JSON file; None takes the field out."""
    data = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def test_the_original_files_say_all(folder: Path, tmp_path: Path) -> None:
    parts = ("dinosiglip-vit-so-224px", "llama2-7b-pure", "fused-gelu-mlp")
    ours = load_policy(saved(tmp_path / "ours", *parts, resize="letterbox"))
    theirs = load_policy(folder)
    assert all(
        torch.equal(value, theirs.module.state_dict()[name])
        for name, value in ours.module.state_dict().items()
    )
    assert theirs.contract.images.fills == ((127, 127, 127),) * 2  # the original pads once for both towers
    action = theirs.predict_action(PICTURE, "lift")  # type: ignore[attr-defined]
    assert action.shape == (3,)


def test_colours_that_the_converter_rounded_count(folder: Path) -> None:
    place = folder / "preprocessor_config.json"
    colours = json.loads(place.read_text())["tvf_normalize_params"]
    colours[0]["mean"] = [0.484375, 0.455078125, 0.40625]
    changed(place, tvf_normalize_params=colours)
    assert read_content(folder).contract.images.means[0] == (0.484375, 0.455078125, 0.40625)


def test_statistics_beside_the_settings_take_precedence(folder: Path) -> None:
    own = json.loads((folder / "dataset_statistics.json").read_text())["toy"]
    changed(folder / "config.json", norm_stats={"toy": {}, "other": own})
    policy = load_policy(folder)
    assert set(policy.statistics) == {"toy", "other"}
    with pytest.raises(ContractMismatch, match=r"no statistics named 'nope'.*other \(3-D action.*toy \(3-D"):
        policy.predict_action(PICTURE, "lift", unnorm_key="nope")  # type: ignore[attr-defined]


def test_the_prompt_may_be_chosen_as_the_folder_does_not_state_it(folder: Path) -> None:
    assert load_policy(folder).contract.prompt.builder == "pure"
    assert load_policy(folder, prompt="vicuna-v15").contract.prompt.builder == "vicuna-v15"
    with pytest.raises(CheckpointError, match=r"policy\.projector is 'linear', but the checkpoint"):
        load_policy(folder, projector="linear")


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"model_type": "llama"}, "'model_type' is 'llama'; openvla or prismatic is expected"),
        ("config.json", {"timm_model_ids": None}, "has no field 'timm_model_ids'"),
        ("config.json", {"timm_model_ids": "x"}, "'timm_model_ids' is 'x'; list is expected"),
        ("config.json", {"text_config": None}, "has no field 'text_config'"),
        ("config.json", {"text_config": {"model_type": "nonsense"}}, "does not describe a language model"),
        ("config.json", {"arch_specifier": "gelu"}, "'arch_specifier' is 'gelu'; linear, gelu-mlp or"),
        ("config.json", {"arch_specifier": "gelu-mlp"}, r"'projector\.fc1\.bias' has shape \[160\]"),
        ("preprocessor_config.json", {"tvf_normalize_params": None}, "no field 'tvf_normalize_params'"),
        (
            "preprocessor_config.json",
            {"image_resize_strategy": "zoom"},
            "does not describe an image processor",
        ),
    ],
)
def test_a_wrong_field_is_named(folder: Path, file: str, fields: dict[str, Any], message: str) -> None:
    changed(folder / file, **fields)
    with pytest.raises(CheckpointError, match=message):
        load_policy(folder)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_policy(folder)


def test_a_setting_that_no_policy_has_is_the_users_to_mend(folder: Path) -> None:
    from openvla_toolkit.core.errors import UserError

    with pytest.raises(UserError, match="cannot load with 'colour'"):
        load_policy(folder, colour="red")
