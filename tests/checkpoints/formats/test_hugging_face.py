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
        ("config.json", {"n_action_bins": "many"}, "'n_action_bins' is 'many'; int is expected"),
        ("config.json", {"llm_max_length": [1]}, r"'llm_max_length' is \[1\]; int is expected"),
        ("config.json", {"norm_stats": [1]}, r"'norm_stats' is \[1\]; dict is expected"),
        ("preprocessor_config.json", {"input_sizes": []}, r"'input_sizes' is \[\]; \[3, SIZE, SIZE\]"),
        ("preprocessor_config.json", {"input_sizes": [224, 224]}, r"'input_sizes' is \[224, 224\]"),
        ("preprocessor_config.json", {"input_sizes": [[3, 224, 224], [3, 384, 384]]}, "of one SIZE"),
        (
            "preprocessor_config.json",
            {"tvf_normalize_params": [{"mean": [0, 0, 0], "std": [1, 0, 1]}] * 2},
            "divides by a 'std' that is not positive",
        ),
        ("preprocessor_config.json", {"tvf_resize_params": []}, "'tvf_resize_params' is empty"),
        (
            "preprocessor_config.json",
            {"tvf_resize_params": [{"size": 224}, {"size": 224}]},
            "does not describe an image processor: KeyError\\('interpolation'\\)",
        ),
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


def test_a_tokenizer_above_the_folder_is_not_taken(folder: Path) -> None:
    (folder.parent / "tokenizer").mkdir()
    (folder / "tokenizer.json").rename(folder.parent / "tokenizer" / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"published/tokenizer\.json is missing"):
        load_policy(folder)
    given = load_policy(folder, tokenizer=str(folder.parent / "tokenizer"))
    assert given.predict_action(PICTURE, "lift").shape == (3,)  # type: ignore[attr-defined]
