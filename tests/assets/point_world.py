"""A world, a policy and a data set in one dimension, so that evaluators can be tested in milliseconds.

The instruction is ``go right`` or ``go left``; an episode succeeds if the point ends well on that side.
Pictures are bright on the right as long as the point is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from openvla_toolkit.core.contract import Camera, Contract, Dimension, ImageRecipe, Interface, Normalization
from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.core.types import (
    ADDRESS_FIELDS,
    ActionChunk,
    DataDescription,
    Episode,
    Observation,
    Sample,
)
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.environment import EnvironmentConfig

STEPS = 6
WORDS = {"right": 1.0, "left": -1.0}


def robot(*, control_hz: float = 5.0) -> Interface:
    return Interface(
        cameras={"primary": Camera(height=8, width=8), "wrist": Camera(height=8, width=8)},
        action=(
            Dimension(name="x", unit="m", reference="delta"),
            Dimension(name="gripper", unit="1", reference="absolute", gripper="open_high"),
        ),
        control_hz=control_hz,
    )


class PointWorld:
    """``fault`` breaks the world on purpose in the episode with that seed."""

    def __init__(self, *, fault: str | None, fault_seed: int) -> None:
        self._fault, self._fault_seed = fault, fault_seed

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        options = options or {}
        rng = np.random.default_rng(seed)
        self._seed, self._family, self._steps = seed, str(options["family"]), 0
        self._position, self._goal = float(rng.uniform(-0.2, 0.2)), WORDS[self._family]
        wanted = -self._goal if options.get("swap") else self._goal
        self._task = "go right" if wanted > 0 else "go left"
        return self._seen(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if self._fault and self._seed == self._fault_seed:
            if self._fault == "die":
                os._exit(7)
            raise RuntimeError("the motor is hot")
        self._position += float(action[0])
        self._steps += 1
        info = self._info()
        done = self._steps == STEPS + (self._seed or 0) % 3
        return self._seen(), 0.0, done and info["is_success"], done, info

    def expert_action(self) -> np.ndarray:
        return np.array([0.1 * self._goal, 1.0], dtype=np.float32)

    def close(self) -> None:
        pass

    def _seen(self) -> dict[str, Any]:
        picture = np.zeros((8, 8, 3), dtype=np.uint8)
        picture[:, 4:] = 255 if self._position > 0 else 40
        return {
            "observation.images.primary": picture,
            "observation.images.wrist": 255 - picture,
            "observation.state": np.array([self._position], dtype=np.float32),
            "task": self._task,
        }

    def _info(self) -> dict[str, Any]:
        return {"is_success": self._position * self._goal > 0.25, "family": self._family}


class PointWorldConfig(EnvironmentConfig):
    """Settings of the world."""

    name: Literal["point-world"] = "point-world"
    fault: Literal["raise", "die"] | None = None
    fault_seed: int = 0
    control_hz: float = 5.0

    def build(self) -> PointWorld:
        return PointWorld(fault=self.fault, fault_seed=self.fault_seed)

    def interface(self) -> Interface:
        return robot(control_hz=self.control_hz)

    def families(self) -> tuple[str, ...]:
        return tuple(WORDS)


class PointPolicy:
    """Does what the instruction says and sees nothing; remembers the size of every batch."""

    def __init__(self, *, chunk: int = 1, step: float = 0.1, tokens: bool = False) -> None:
        self.contract = Contract(
            robot=robot(),
            cameras=("primary", "wrist"),
            chunk=chunk,
            images=ImageRecipe(size=8, means=((0.5, 0.5, 0.5),), stds=((0.5, 0.5, 0.5),)),
            normalization=Normalization(method="bounds"),
        )
        low, high = np.array([-0.2, 0.0]), np.array([0.2, 1.0])
        moments = Moments(
            mean=low * 0, std=low * 0 + 1, max=high, min=low, q01=low, q99=high, mask=np.array([True, False])
        )
        self.statistics = {
            "points": Statistics(action=moments, proprio=None, num_transitions=1, num_trajectories=1)
        }
        self.processor = SimpleNamespace(encode=self._encode)
        self.batches: list[int] = []
        self._chunk, self._step, self._tokens = chunk, step, tokens

    def predict_chunks(
        self, observations: Sequence[Observation], *, unnorm_key: str | None = None
    ) -> list[ActionChunk]:
        self.batches.append(len(observations))
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        x = self._step if "right" in observation.instruction else -self._step
        actions = np.tile(np.array([x, 1.0]), (self._chunk, 1))
        return ActionChunk(actions=actions, tokens=self._code(actions) if self._tokens else None)

    def _encode(self, sample: Sample) -> dict[str, np.ndarray]:
        units = sample.actions * np.array([0.2, 1.0])
        answer = self._code(units).ravel()
        return {"labels": np.concatenate([[-100, -100], answer, [2]]).astype(np.int64)}

    @staticmethod
    def _code(actions: np.ndarray) -> np.ndarray:
        return np.round(actions * 100).astype(np.int64) + 1000


class PointDataset:
    """Eight recorded episodes of four to eleven frames; every fourth frame goes twice as fast."""

    def __init__(self, *, recorded: Interface | None) -> None:
        self._robot = recorded
        self.reads = 0

    def describe(self) -> DataDescription:
        return DataDescription(
            name="points", fingerprint="1", files=(), cameras=("primary", "wrist"), robot=self._robot
        )

    def __len__(self) -> int:
        return 8

    def __getitem__(self, position: int) -> Episode:
        self.reads += 1
        length = 4 + position
        actions = np.tile(np.array([0.1, 1.0], dtype=np.float32), (length, 1))
        actions[::4, 0] = 0.2
        addresses = np.zeros(length, dtype=ADDRESS_FIELDS)
        return Episode(
            name=f"episode {position}",
            images={"primary": addresses, "wrist": addresses},
            states=None,
            actions=actions,
            instructions=["go right"] * length,
        )

    def image(self, address: np.void) -> np.ndarray:
        return np.zeros((8, 8, 3), dtype=np.uint8)


class PointDatasetConfig(DatasetConfig):
    """Settings of the data set."""

    name: Literal["points"] = "points"
    robot_recorded: bool = True

    def build(self) -> PointDataset:
        return PointDataset(recorded=robot() if self.robot_recorded else None)
