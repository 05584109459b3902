"""The smallest real model, as a checkpoint on disk and as a class of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import openvla_toolkit
from openvla_toolkit.core.contract import Camera, Interface
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.testing import tiny_policy

openvla_toolkit.register_auto_classes()

Words = Callable[..., dict[str, torch.Tensor]]
"""``words("push the cube", "lift", side="left")``: ids and mask."""


@pytest.fixture
def seeded(robot: Interface, statistics: dict[str, Statistics]) -> OpenVLAPolicy:
    """A policy of one camera, untrained, but with opinions."""
    torch.manual_seed(0)
    robot = robot.model_copy(update={"cameras": {"primary": Camera(height=32, width=40)}})
    config = tiny_policy(cameras=["primary"], projector_std=0.2)
    assert isinstance(config, OpenVLAConfig)
    policy = config.build(robot=robot, statistics=statistics)
    with torch.no_grad():
        policy.module.language_model.lm_head.weight.mul_(20)  # type: ignore[operator, union-attr]
    policy.module.eval()
    return policy


@pytest.fixture
def folder(seeded: OpenVLAPolicy, tmp_path: Path) -> Path:
    place = tmp_path / "checkpoint"
    place.mkdir()
    seeded.save(place)
    return place


@pytest.fixture
def model(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    """Pixels of three pictures."""
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (32, 40, 3), dtype=np.uint8))


@pytest.fixture
def words(seeded: OpenVLAPolicy) -> Words:
    tokenizer: Any = seeded.tokenizer

    def encode(*texts: str, side: str = "left") -> dict[str, torch.Tensor]:
        rows = [tokenizer.encode(text) for text in texts]
        longest = max(map(len, rows))
        ids, masks = [], []
        for row in rows:
            padding = longest - len(row)
            left, right = (padding, 0) if side == "left" else (0, padding)
            pad = tokenizer.pad_token_id
            ids.append([pad] * left + row + [pad] * right)
            masks.append([0] * left + [1] * len(row) + [0] * right)
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}

    return encode
