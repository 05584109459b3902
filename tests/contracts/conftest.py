"""The least that each component needs to be made, where its defaults are not enough or too large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.testing import DotsConfig, DotsEpisodesConfig, DotsRobotConfig, tiny_policy
from openvla_toolkit.testing.data import open_x_trajectory

GOLDEN = Path(__file__).parent.parent / "golden" / "rlds" / "data"
WORLD = {"image_size": 32, "objects_max": 2}


def _npz(folder: Path) -> Mapping[str, Any]:
    arrays = {
        "images": np.zeros((3, 32, 32, 3), dtype=np.uint8),
        "states": np.zeros((3, 3)),
        "actions": np.zeros((3, 3)),
    }
    np.savez(folder / "episode.npz", **arrays, instruction="wait")
    return {"root": folder, "embodiment": DotsRobotConfig()}


def _demonstrations(folder: Path) -> Mapping[str, Any]:
    environment = {"name": "tabletop", "world": WORLD}
    return {"environment": environment, "root": folder, "dataset": "made", "episodes": 3, "workers": 1}


def _bridge() -> Mapping[str, Any]:
    robot = {"name": "widowx", "cameras": {"primary": {"height": 128, "width": 128, "codec": ["jpeg"]}}}
    cameras = {"primary": "image_0"}
    return {"root": GOLDEN, "dataset": "bridge_orig", "cameras": cameras, "embodiment": robot}


def _fractal() -> Mapping[str, Any]:
    plain = open_x_trajectory()
    parts = {"world_vector": 3, "rotation_delta": 3, "gripper_closedness_action": 1}
    action = {key: plain["action"][:, :width] for key, width in parts.items()}
    told = {"natural_language_instruction": plain["language_instruction"]}
    return {"action": action, "observation": {**plain["observation"], **told}}


def _custom(folder: Path) -> Mapping[str, Any]:
    return DotsRobotConfig().model_dump(exclude={"name"})


def _dots(folder: Path) -> Mapping[str, Any]:
    return {"environment": DotsConfig(), "episodes": 4, "parallel": 2, "workers": 1, "filmstrips": 1}


def _prismatic_vision(folder: Path) -> Mapping[str, Any]:
    return {"id": "clip-vit-b", "options": {"embed_dim": 24, "depth": 3, "num_heads": 2}}


def _prismatic_language(folder: Path) -> Mapping[str, Any]:
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    settings = {**dict(zip(sizes, (16, 32, 2, 2), strict=True)), "num_key_value_heads": 1}
    return {"id": "mistral-v0.1-7b-pure", "settings": settings, "tokenizer": "tabletop"}


SETTINGS: Mapping[tuple[str, str], Callable[[Path], Mapping[str, Any]]] = {
    ("vision_backbone", "timm"): lambda folder: tiny_policy().model_dump()["vision_backbone"],
    ("vision_backbone", "prismatic"): _prismatic_vision,
    ("language_model", "prismatic-lm"): _prismatic_language,
    ("language_model", "causal-lm"): lambda folder: tiny_policy().model_dump()["language_model"],
    ("policy", "openvla"): lambda folder: tiny_policy().model_dump(),
    ("embodiment", "custom"): _custom,
    ("dataset", "rlds"): lambda folder: _bridge(),
    ("dataset", "demonstrations"): _demonstrations,
    ("dataset", "npz-episodes"): _npz,
    ("engine", "single"): lambda folder: {"device": "cpu"},
    ("environment", "tabletop"): lambda folder: {"world": {**WORLD, "max_steps": 4}},
    ("evaluator", "closed-loop"): _dots,
    ("evaluator", "open-loop"): lambda folder: {"data": DotsEpisodesConfig(), "frames": 8},
    ("observer", "wandb"): lambda folder: {"mode": "disabled"},
}

ARGUMENTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("transform", "fractal"): {"trajectory": _fractal()},
}
"""What a check needs to be told besides."""


@pytest.fixture
def arguments(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Further arguments of the check of the component that the test is about."""
    about = request.node.callspec.params
    return ARGUMENTS.get((about["kind"], about["name"]), {})


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, Any]:
    """The settings of the component that the test is about (its parameters ``kind`` and ``name``)."""
    about = request.node.callspec.params
    make = SETTINGS.get((about["kind"], about["name"]))
    return {} if make is None else make(tmp_path)
