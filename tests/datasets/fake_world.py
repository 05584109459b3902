"""A world of one number: the expert walks to the goal. Worker processes import it, so it is a module."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.interfaces.environment import EnvironmentConfig

ROBOT = Interface(
    cameras={"front": Camera(height=8, width=12)},
    state=(Dimension(name="place", unit="m", reference="absolute"),),
    action=(
        Dimension(name="move", unit="m", reference="delta"),
        Dimension(name="turn", unit="rad", reference="delta", rotation="euler_xyz"),
        Dimension(name="gripper", unit="1", reference="absolute", gripper="open_high"),
    ),
    control_hz=4,
)


class FakeWorldConfig(EnvironmentConfig):
    """Settings of the fake world."""

    name: Literal["fake-world"] = "fake-world"
    expert: Literal["able", "unlucky", "hopeless", "none", "deadly"] = "able"
    bounded: bool = True
    size: int = 6

    def build(self) -> FakeWorld:
        world = FakeWorld(self) if self.expert == "none" else ExpertWorld(self)
        if self.bounded:
            limit = np.array([0.5, 0.5, 1], np.float32)
            world.action_space = spaces.Box(-limit, limit)
        return world

    def interface(self) -> Interface:
        return ROBOT

    def families(self) -> tuple[str, ...]:
        return ("near", "far")


class FakeWorld:
    """Ends when the place is within 0.2 of the goal, or after twelve steps."""

    action_space: Any = None

    def __init__(self, settings: FakeWorldConfig) -> None:
        self.settings = settings

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seed, self.family, self.steps = int(seed or 0), options["family"], 0
        self.goal = np.random.default_rng(seed).uniform(1, 2) * (1 if self.family == "near" else 2)
        self.place = 0.0
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.place += float(action[0])
        self.steps += 1
        over = self._info()["is_success"]
        return self._observe(), float(over), over, not over and self.steps >= 12, self._info()

    def close(self) -> None:
        self.closed = True

    def _observe(self) -> dict[str, Any]:
        picture = np.full((8, 12, 3), self.steps * 10, np.uint8)
        state = np.array([self.place], np.float32)
        task = f"go to {self.goal:.2f}"
        return {"observation.images.front": picture, "observation.state": state, "task": task}

    def _info(self) -> dict[str, Any]:
        return {"is_success": abs(self.goal - self.place) < 0.2, "family": self.family}


class ExpertWorld(FakeWorld):
    """The same with somebody who knows the way, most of the time."""

    def expert_action(self) -> np.ndarray:
        if self.settings.expert == "deadly":
            os._exit(3)
        lost = self.settings.expert == "hopeless" or (
            self.settings.expert == "unlucky" and self.seed % 3 == 0
        )
        move = 0.0 if lost else float(np.clip(self.goal - self.place, -0.5, 0.5))
        return np.array([move, 0.1, 1.0], np.float32)
