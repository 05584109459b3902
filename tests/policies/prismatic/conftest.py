"""The smallest real policy and what it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.core.types import Observation, Sample
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.testing import tiny_policy

CAMERAS = ("primary", "wrist")
INSTRUCTIONS = ("push the red cube", "lift", "Put the blue ball ON the zebra-striped plate, please")

Make = Callable[..., OpenVLAPolicy]
"""``make_policy(**settings)``: seeded, with the settings of ``tiny_policy`` replaced by these."""

Tensors = Callable[..., dict[str, torch.Tensor]]
"""``tensors(policy, items, side="right")``: encoded items as a batch."""


@pytest.fixture
def robot() -> Interface:
    names = ("x", "y", "z", "gripper")
    return Interface(
        cameras={camera: Camera(height=32, width=32) for camera in CAMERAS},
        action=tuple(Dimension(name=name, unit="1", reference="delta") for name in names),
        control_hz=5,
    )


@pytest.fixture
def statistics() -> dict[str, Statistics]:
    low, high = np.array([-1.0, -2.0, 0.0, 0.0]), np.array([1.0, 2.0, 4.0, 1.0])
    mask = np.array([True, True, True, False])
    moments = Moments(mean=(low + high) / 2, std=high - low, max=high, min=low, q01=low, q99=high, mask=mask)
    return {"toy": Statistics(action=moments, proprio=None, num_transitions=10, num_trajectories=2)}


@pytest.fixture
def make_policy(robot: Interface, statistics: dict[str, Statistics]) -> Make:
    def make(seed: int = 0, **settings: Any) -> OpenVLAPolicy:
        torch.manual_seed(seed)
        config = tiny_policy(**settings)
        assert isinstance(config, OpenVLAConfig)
        policy = config.build(robot=robot, statistics=statistics)
        policy.module.eval()
        return policy

    return make


@pytest.fixture
def policy(make_policy: Make) -> OpenVLAPolicy:
    return make_policy()


@pytest.fixture
def observations() -> list[Observation]:
    random = np.random.default_rng(0)
    return [
        Observation(images=_views(random), instruction=instruction, state=None)
        for instruction in INSTRUCTIONS
    ]


@pytest.fixture
def samples(observations: list[Observation]) -> list[Sample]:
    random = np.random.default_rng(1)
    return [
        Sample(
            images=observation.images,
            state=None,
            actions=random.uniform(-1, 1, (1, 4)).astype(np.float32),
            instruction=observation.instruction,
            dataset="toy",
        )
        for observation in observations
    ]


def _views(random: np.random.Generator) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    return {camera: random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for camera in CAMERAS}


@pytest.fixture
def tensors() -> Tensors:
    def collate(policy: OpenVLAPolicy, items: list[Any], side: str = "right") -> dict[str, torch.Tensor]:
        arrays = policy.processor.collate(items, side=side)
        return {key: torch.from_numpy(value) for key, value in arrays.items()}

    return collate
