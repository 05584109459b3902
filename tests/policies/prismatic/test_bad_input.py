"""What is wrong with a checkpoint or a question is said by name, whatever library finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError, UserError
from tests.checkpoints.small_models import as_the_original, saved

PICTURE = np.zeros((20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 17},
        {"hidden_size": "16"},
        {"model_type": "clip_vision_model"},
        {"model_type": "lama"},
        {"vocab_size": 2, "pad_token_id": 7},
    ],
)
def test_a_text_config_that_is_no_language_model_s(tmp_path: Path, change: dict[str, Any]) -> None:
    place = as_the_original(saved(tmp_path / "hf")) / "config.json"
    config = json.loads(place.read_text())
    config["text_config"] |= change
    place.write_text(json.dumps(config))
    (tmp_path / "hf" / "arch.json").write_text(
        json.dumps(json.loads((tmp_path / "hf" / "arch.json").read_text()) | {"llm": config["text_config"]})
    )
    # transformers before 5 makes a language model of width 17, which the tensors then do not fit.
    with pytest.raises(CheckpointError, match=r"'text_config' does not describe a language model|has shape"):
        load_policy(tmp_path / "hf")


@pytest.mark.parametrize("part", ["vision_backbone", "language_model"])
def test_a_part_that_is_not_there(tmp_path: Path, part: str) -> None:
    place = saved(tmp_path / "own") / "config.json"
    config = json.loads(place.read_text())
    config["openvla_toolkit"]["policy"] |= {part: None, "weights": "elsewhere"}
    place.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"policy\.{part} is missing"):
        load_policy(tmp_path / "own")


def test_integers_in_place_of_weights(tmp_path: Path) -> None:
    place = saved(tmp_path / "own") / "model.safetensors"
    name = "language_model.lm_head.weight"
    tensors = load_file(place)
    save_file({**tensors, name: torch.zeros_like(tensors[name], dtype=torch.int64)}, place)
    with pytest.raises(
        CheckpointError, match=rf"'{name}' is of type torch\.int64; torch\.float32 is expected"
    ):
        load_policy(tmp_path / "own")


@pytest.mark.parametrize("instruction", [5, ["lift", "push"], b"lift"])
def test_an_instruction_that_is_no_text(tmp_path: Path, instruction: Any) -> None:
    policy: Any = load_policy(saved(tmp_path / "own"))
    with pytest.raises(UserError, match=rf"must be a str; {type(instruction).__name__} was given"):
        policy.predict_action(PICTURE, instruction)
