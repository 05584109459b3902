"""The least that each component needs to be made, where its defaults are not enough or too large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from openvla_toolkit.core.worker import available_cores
from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsConfig, DotsEpisodesConfig, DotsRobotConfig, tiny_policy

GOLDEN = Path(__file__).parent.parent / "golden" / "rlds" / "data"
WORLD = {"image_size": 32, "objects_max": 2}


def _npz(folder: Path) -> Mapping[str, Any]:
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    arrays = {
        **{f"{camera}_{frame}": picture for camera in DotsRobotConfig().cameras for frame in range(3)},
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


def _lerobot(folder: Path) -> Mapping[str, Any]:
    source = DotsEpisodesConfig(episodes=3)
    settings = {"codec": "libx264"}
    convert(Job(source=source, destination=folder / "dots", to="lerobot", settings=settings))
    return {"root": folder / "dots"}


def _hdf5(folder: Path) -> Mapping[str, Any]:
    with h5py.File(folder / "demo.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["language_instruction"] = "wait"
        demo["actions"], demo["obs/state"] = np.zeros((3, 3)), np.zeros((3, 3))
        demo["obs/image"] = np.zeros((3, 32, 32, 3), np.uint8)
    cameras = {"primary": "obs/image"}
    return {"root": folder, "cameras": cameras, "state": ["obs/state"], "embodiment": DotsRobotConfig()}


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
    ("dataset", "lerobot"): _lerobot,
    ("dataset", "hdf5"): _hdf5,
    ("dataset", "demonstrations"): _demonstrations,
    ("dataset", "npz-episodes"): _npz,
    ("transform", "open-x"): lambda folder: {"dataset": "libero_spatial_no_noops"},
    ("mixture", "open-x"): lambda folder: {"mixture": "bridge", "root": GOLDEN},
    ("mixture", "weighted"): lambda folder: {"data": [DotsEpisodesConfig()]},
    ("executor", "processes"): lambda folder: {"workers": 2},
    ("executor", "ray"): lambda folder: {"cpus_per_task": available_cores()},
    ("engine", "single"): lambda folder: {"device": "cpu"},
    ("engine", "ddp"): lambda folder: {"device": "cpu"},
    ("engine", "fsdp"): lambda folder: {"device": "cpu"},
    ("environment", "tabletop"): lambda folder: {"world": {**WORLD, "max_steps": 4}},
    ("evaluator", "closed-loop"): _dots,
    ("evaluator", "open-loop"): lambda folder: {"data": DotsEpisodesConfig(), "frames": 8},
    ("observer", "wandb"): lambda folder: {"mode": "disabled"},
}


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, Any]:
    """The settings of the component that the test is about (its parameters ``kind`` and ``name``)."""
    about = request.node.callspec.params
    make = SETTINGS.get((about["kind"], about["name"]))
    return {} if make is None else make(tmp_path)
