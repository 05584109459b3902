"""Let an environment's scripted expert act, and write what it does as an RLDS data set."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import DataError, RecipeError, did_you_mean
from openvla_toolkit.core.registry import load
from openvla_toolkit.datasets.rlds.card import CARD, DatasetCard, load_card
from openvla_toolkit.datasets.rlds.features import Dataset, Feature, FeaturesDict, Image, Scalar, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import RLDSWriter, serialize_episode
from openvla_toolkit.interfaces.environment import Environment, EnvironmentConfig

if TYPE_CHECKING:
    from openvla_toolkit.datasets import DemonstrationsConfig

__all__ = ["Demonstration", "demonstrate", "prepare"]

VERSION = "1.0.0"
SETTINGS = ("environment", "episodes", "seed", "families", "noise", "noise_scale", "keep_failures")
"""What the content of the data set depends on."""
ATTEMPTS_PER_EPISODE = 4
"""An expert that needs more than this is broken, not unlucky."""


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


def prepare(config: DemonstrationsConfig, *, report: Callable[[int, int], None] | None = None) -> None:
    """Generate the data set that ``config`` describes, unless it is there already."""
    settings = config.model_dump(mode="json", include=set(SETTINGS))
    folder = config.root / config.dataset / VERSION
    if folder.exists():
        _compare(settings, folder / CARD)
        return
    interface = config.environment.interface()
    plan = Plan(
        environment=config.environment,
        interface=interface,
        families=_families(config),
        seed=config.seed,
        noise=config.noise,
        noise_scale=config.noise_scale,
    )
    with RLDSWriter(
        config.root,
        dataset=config.dataset,
        version=VERSION,
        features=_features(interface),
        description=f"Demonstrations of the scripted expert of the environment '{config.environment.name}'.",
        card=_card(interface, settings),
    ) as writer:
        for done, data in enumerate(_kept(plan, config), start=1):
            writer.write_serialized(data)
            if report is not None:
                report(done, config.episodes)


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
    return Demonstration(success, serialize_episode(_features(plan.interface), episode))


class _Disturbance:
    """Shakes the movement of some steps (DART, Laskey et al. 2017); turns and the gripper are left alone."""

    def __init__(self, environment: Environment, plan: Plan, *, seed: int) -> None:
        self._share = plan.noise
        self._random = np.random.default_rng([seed, 0x5EED])
        if plan.noise == 0:
            return
        space = getattr(environment, "action_space", None)
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
        return np.clip(shaken, self._low, self._high).astype(np.float32)


def _kept(plan: Plan, config: DemonstrationsConfig) -> Iterator[bytes]:
    """Yield the episodes to keep, in the order of their numbers, whoever made them."""
    kept = attempts = 0
    limit = config.episodes * ATTEMPTS_PER_EPISODE + len(plan.families)
    with _makers(plan, config.workers or os.cpu_count() or 1) as make:
        while kept < config.episodes:
            # Small portions: results wait in memory until they are written.
            portion = range(attempts, attempts + min(config.episodes - kept, 256))
            for demonstration in make(portion):
                attempts += 1
                if demonstration.success or config.keep_failures:
                    kept += 1
                    yield demonstration.data
            if kept < config.episodes and attempts >= limit:
                raise DataError(
                    f"the expert of the environment '{config.environment.name}' succeeded in {kept} of {attempts} "
                    "attempts, too few to go on. Lower noise or noise_scale, or set keep_failures: true.",
                    key="episodes",
                )


@contextmanager
def _makers(plan: Plan, workers: int) -> Iterator[Callable[[range], Iterator[Demonstration]]]:
    """Give a function that makes attempts in this process or, in order, in several spawned ones."""
    if workers == 1:
        environment = plan.environment.build()
        try:
            yield lambda numbers: map(partial(demonstrate, environment, plan), numbers)
        finally:
            environment.close()
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan,)
    )
    try:
        yield lambda numbers: pool.map(_demonstrate_in_worker, numbers, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(plan: Plan) -> None:
    """Make this process's own environment, once."""
    _worker.update(environment=plan.environment.build(), plan=plan)


def _demonstrate_in_worker(number: int) -> Demonstration:
    return demonstrate(_worker["environment"], _worker["plan"], number)


def _families(config: DemonstrationsConfig) -> tuple[str, ...]:
    known = config.environment.families()
    for family in config.families or ():
        if family not in known:
            raise RecipeError(
                f"the environment '{config.environment.name}' has no task family '{family}'."
                f"{did_you_mean(family, known)} There are: {', '.join(known)}.",
                path="families",
            )
    return tuple(config.families or known)


def _compare(settings: Mapping[str, Any], path: Any) -> None:
    """Accept a data set that is there only if it was made with the same settings."""
    made = load_card(path).generated if path.is_file() else None
    place = path.parent.parent
    remedy = f"Delete {place}, or choose another name for dataset."
    if made is None:
        raise RecipeError(f"{path.parent} exists, but was not generated from an environment. {remedy}", path="dataset")
    other = [key for key in settings if made.get(key) != settings[key]]
    if other:
        lines = [f"  {key}: made with {made.get(key)}, asked for {settings[key]}" for key in other]
        raise RecipeError(
            "\n".join([f"{path.parent} was generated with other settings:", *lines, remedy]), path="dataset"
        )


def _features(interface: Interface) -> FeaturesDict:
    observation: dict[str, Feature] = {
        _image_key(name): Image((camera.height, camera.width, 3)) for name, camera in interface.cameras.items()
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
        _image_key(name): [one[f"observation.images.{name}"] for one in observations] for name in interface.cameras
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


def _card(interface: Interface, settings: dict[str, Any]) -> DatasetCard:
    """Describe the data set for its readers; its robot is whatever the environment has."""
    robot = load("embodiment", "custom").model_validate(
        {"name": "custom", **interface.model_dump(mode="json", exclude_defaults=True)}
    )
    return DatasetCard.model_validate(
        {
            "cameras": {name: _image_key(name) for name in interface.cameras},
            "state": ["state"] if interface.state else [],
            "embodiment": robot,
            "generated": settings,
        }
    )


def _image_key(camera: str) -> str:
    return f"image_{camera}"
