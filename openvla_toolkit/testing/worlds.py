"""Checks of robots and of the worlds they act in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Dimension, Interface
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig
from openvla_toolkit.interfaces.environment import Environment, EnvironmentConfig
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_embodiment", "check_environment"]

_LONGEST = 5000


def check_embodiment(config: EmbodimentConfig) -> None:
    """Check a robot.

    Checked: the settings; that it has a camera and an action; that the numbers of a vector have names of
    their own; that rotations are whole (three numbers for ``euler_xyz``, four for ``quat_xyzw``, ...).
    """
    check_settings(config, EmbodimentConfig)
    interface = config.build()
    expect(
        isinstance(interface, Interface),
        config,
        expected="build() to return an Interface",
        found=type(interface),
    )
    expect(bool(interface.cameras), config, expected="at least one camera", found="none")
    expect(bool(interface.action), config, expected="at least one action dimension", found="none")
    for what, dimensions in (("action", interface.action), ("state", interface.state)):
        names = [dimension.name for dimension in dimensions]
        twice = sorted({name for name in names if names.count(name) > 1})
        expect(
            not twice, config, expected=f"{what} dimensions with names of their own", found=f"{twice} twice"
        )
        _check_rotations(config, what, dimensions)


def _check_rotations(config: EmbodimentConfig, what: str, dimensions: tuple[Dimension, ...]) -> None:
    widths = {
        "euler_xyz": 3,
        "axis_angle": 3,
        "quat_xyzw": 4,
        "quat_wxyz": 4,
        "rot6d_rows": 6,
        "rot6d_columns": 6,
    }
    for rotation, width in widths.items():
        count = sum(dimension.rotation == rotation for dimension in dimensions)
        whole = count % width == 0
        expect(whole, config, expected=f"{rotation} rotations of {width} numbers in its {what}", found=count)


def check_environment(config: EnvironmentConfig, *, episodes: int = 2) -> None:
    """Check a world by ``episodes`` short lives per task family.

    Checked: the settings; that observations have the keys, types and sizes that ``interface`` promises; that
    ``info`` tells success and family; that seed and options repeat an episode exactly and another seed gives
    another one; that ``swap`` changes the words and nothing that is seen; that every episode ends; that an
    expert, where there is one, gives finite actions of the right length.
    """
    check_settings(config, EnvironmentConfig)
    interface, families = config.interface(), config.families()
    expect(
        isinstance(interface, Interface),
        config,
        expected="interface() to return an Interface",
        found=type(interface),
    )
    expect(bool(families), config, expected="at least one task family", found="none")
    world = config.build()
    try:
        for family in families:
            for seed in range(episodes):
                _check_episode(config, world, interface, family, seed)
            _check_swap(config, world, family)
        seen = [_fingerprint(world.reset(seed=seed)[0]) for seed in range(8)]
        expect(
            len(set(seen)) > 1, config, expected="other episodes for other seeds", found="8 that are the same"
        )
    finally:
        world.close()


def _check_episode(
    config: EnvironmentConfig, world: Environment, interface: Interface, family: str, seed: int
) -> None:
    first = _live(config, world, interface, family, seed)
    again = _live(config, world, interface, family, seed)
    expected = f"seed {seed} and family '{family}' to repeat the episode exactly"
    expect(first == again, config, expected=expected, found="another episode")


def _live(
    config: EnvironmentConfig, world: Environment, interface: Interface, family: str, seed: int
) -> list[tuple[bytes, float]]:
    """Live one episode through; return what was seen."""
    observation, info = world.reset(seed=seed, options={"family": family})
    _check_observation(config, observation, interface)
    _check_info(config, info, family)
    lived = [(_fingerprint(observation), 0.0)]
    generator = np.random.default_rng(seed)
    for _ in range(_LONGEST):
        observation, reward, terminated, truncated, info = world.step(
            _action(config, world, interface, generator)
        )
        _check_observation(config, observation, interface)
        _check_info(config, info, family)
        lived.append((_fingerprint(observation), float(reward)))
        if terminated or truncated:
            return lived
    raise AssertionError(f"environment '{config.name}': expected an episode to end, found {_LONGEST} steps.")


def _action(
    config: EnvironmentConfig, world: Environment, interface: Interface, generator: np.random.Generator
) -> NDArray[np.floating[Any]]:
    """Return a small random action; ask the expert, where there is one, without obeying it."""
    width = len(interface.action)
    if hasattr(world, "expert_action"):
        advice = np.asarray(world.expert_action())
        right = advice.shape == (width,) and bool(np.isfinite(advice).all())
        expect(right, config, expected=f"the expert to give {width} finite numbers", found=advice)
    return generator.uniform(-0.01, 0.01, width).astype(np.float32)


def _check_observation(
    config: EnvironmentConfig, observation: Mapping[str, Any], interface: Interface
) -> None:
    for name, camera in interface.cameras.items():
        key = f"observation.images.{name}"
        expect(key in observation, config, expected=f"'{key}' in observations", found=sorted(observation))
        pixels, shape = np.asarray(observation[key]), (camera.height, camera.width, 3)
        right = pixels.dtype == np.uint8 and pixels.shape == shape
        expect(right, config, expected=f"'{key}' as uint8 {shape}", found=f"{pixels.dtype} {pixels.shape}")
    if interface.state:
        state = np.asarray(observation.get("observation.state"))
        right = state.dtype == np.float32 and state.shape == (len(interface.state),)
        expected = f"'observation.state' as float32 ({len(interface.state)},)"
        expect(right, config, expected=expected, found=f"{state.dtype} {state.shape}")
    task = observation.get("task")
    expect(
        isinstance(task, str) and bool(task), config, expected="an instruction as 'task'", found=repr(task)
    )


def _check_info(config: EnvironmentConfig, info: Mapping[str, Any], family: str) -> None:
    success = info.get("is_success")
    right = isinstance(success, bool | np.bool_)
    expect(right, config, expected="info['is_success'] as a truth value", found=repr(success))
    expect(
        info.get("family") == family, config, expected=f"info['family'] '{family}'", found=info.get("family")
    )


def _check_swap(config: EnvironmentConfig, world: Environment, family: str) -> None:
    plain, _ = world.reset(seed=0, options={"family": family})
    plain = dict(plain)
    swapped, info = world.reset(seed=0, options={"family": family, "swap": True})
    same = _fingerprint({**plain, "task": ""}) == _fingerprint({**swapped, "task": ""})
    expect(same, config, expected="option 'swap' to leave the scene as it is", found="another scene")
    other = swapped["task"]
    expect(other != plain["task"], config, expected="option 'swap' to name another object", found=repr(other))
    _check_info(config, info, family)


def _fingerprint(observation: Mapping[str, Any]) -> bytes:
    return b"".join(
        value.encode() if isinstance(value, str) else np.asarray(value).tobytes()
        for _, value in sorted(observation.items())
    )
