"""One episode of an environment's scripted expert, as the bytes of an RLDS record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.datasets.rlds.features import Dataset, Feature, FeaturesDict, Image, Scalar, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import serialize_episode
from openvla_toolkit.interfaces.environment import Environment, EnvironmentConfig

__all__ = ["Demonstration", "Plan", "demonstrate", "episode_features", "image_key"]


class Demonstration(NamedTuple):
    """One finished attempt."""

    success: bool
    data: bytes
    """The serialized episode."""


class Plan(NamedTuple):
    """What a process needs to make any attempt by its number alone."""

    environment: EnvironmentConfig
    interface: Interface
    families: tuple[str, ...]
    seed: int
    noise: float
    noise_scale: float


def demonstrate(environment: Environment, plan: Plan, number: int) -> Demonstration:
    """Make attempt ``number``: a pure function of the plan and the number.

    Raises:
        RecipeError: the environment has no expert, or no bounds that a disturbance could be measured by.
    """
    expert = getattr(environment, "expert_action", None)
    if expert is None:
        raise RecipeError(
            f"the environment '{plan.environment.name}' has no scripted expert (it lacks expert_action()), "
            "so there is nobody to demonstrate. Choose another environment, or a data set that exists.",
            path="environment",
        )
    family = plan.families[number % len(plan.families)]
    shake = _Disturbance(environment, plan, seed=plan.seed + number)
    observation, info = environment.reset(seed=plan.seed + number, options={"family": family})
    observations, actions, rewards, over = [], [], [], False
    while not over:
        action = np.asarray(expert(), dtype=np.float32)
        observations.append(observation)
        actions.append(action)
        observation, reward, terminated, truncated, info = environment.step(shake(action))
        rewards.append(float(reward))
        over = terminated or truncated
    success = bool(info["is_success"])
    about = {"family": family, "seed": plan.seed + number, "success": success}
    episode = {
        "steps": _steps(plan.interface, observations, actions, rewards, terminated=bool(terminated)),
        "episode_metadata": about,
    }
    return Demonstration(success, serialize_episode(episode_features(plan.interface), episode))


class _Disturbance:
    """Shakes the movement of some steps (DART, Laskey et al. 2017); turns and the gripper are left alone."""

    def __init__(self, environment: Environment, plan: Plan, *, seed: int) -> None:
        self._share = plan.noise
        self._random = np.random.default_rng([seed, 0x5EED])
        if plan.noise == 0:
            return
        space: Any = getattr(environment, "action_space", None)
        if not (hasattr(space, "low") and hasattr(space, "high")):
            raise RecipeError(
                f"noise is measured by the bounds of the action space, which the environment "
                f"'{plan.environment.name}' does not have (action_space.low and .high). Set noise to 0.",
                path="noise",
            )
        self._low, self._high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
        moves = [one.reference == "delta" and one.rotation is None for one in plan.interface.action]
        self._scale = plan.noise_scale * (self._high - self._low) / 2 * np.array(moves)

    def __call__(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._share == 0 or self._random.random() >= self._share:
            return action
        shaken = action + self._scale * self._random.normal(size=action.shape)
        clipped: NDArray[np.float32] = np.clip(shaken, self._low, self._high).astype(np.float32)
        return clipped


def episode_features(interface: Interface) -> FeaturesDict:
    """Return the features of the episodes of a robot: those of an RLDS set as the field writes it."""
    observation: dict[str, Feature] = {
        image_key(name): Image((camera.height, camera.width, 3)) for name, camera in interface.cameras.items()
    }
    if interface.state:
        observation["state"] = Tensor((len(interface.state),), "float32")
    step: dict[str, Feature] = {
        "observation": FeaturesDict(observation),
        "action": Tensor((len(interface.action),), "float32"),
        "discount": Scalar("float32"),
        "reward": Scalar("float32"),
        "is_first": Scalar("bool"),
        "is_last": Scalar("bool"),
        "is_terminal": Scalar("bool"),
        "language_instruction": Text(),
    }
    about: dict[str, Feature] = {"family": Text(), "seed": Scalar("int64"), "success": Scalar("bool")}
    return FeaturesDict({"steps": Dataset(FeaturesDict(step)), "episode_metadata": FeaturesDict(about)})


def _steps(
    interface: Interface,
    observations: list[Mapping[str, Any]],
    actions: list[NDArray[np.float32]],
    rewards: list[float],
    *,
    terminated: bool,
) -> dict[str, Any]:
    count = len(actions)
    last = np.arange(count) == count - 1
    seen: dict[str, Any] = {
        image_key(name): [one[f"observation.images.{name}"] for one in observations]
        for name in interface.cameras
    }
    if interface.state:
        seen["state"] = np.stack([one["observation.state"] for one in observations])
    return {
        "observation": seen,
        "action": np.stack(actions),
        "discount": np.ones(count, np.float32),
        "reward": np.array(rewards, np.float32),
        "is_first": np.arange(count) == 0,
        "is_last": last,
        "is_terminal": last & terminated,
        "language_instruction": [str(one["task"]) for one in observations],
    }


def image_key(camera: str) -> str:
    """Return the key of the observation that holds a camera's pictures."""
    return f"image_{camera}"
