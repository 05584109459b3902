"""The plane with two dots: 32-pixel pictures, two task families, an expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

if TYPE_CHECKING:
    from openvla_toolkit.testing.fakes.dots import DotsConfig

__all__ = ["DotsWorld", "jpeg"]

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
STEP = 0.25
NEAR = 0.15
SIZE = 32

Vector = NDArray[np.float32]


class DotsWorld:
    """An episode ends near the named dot, with the gripper closed (``grip``) or open (``touch``)."""

    def __init__(self, config: DotsConfig) -> None:
        self._max_steps = config.max_steps
        self._dots: dict[str, Vector] = {}
        self._place: Vector = np.zeros(2, dtype=np.float32)
        self._open, self._steps, self._goal, self._family, self._task = 1.0, 0, "red", "touch", ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Draw dots, robot and goal; without a seed a new one each time."""
        options, generator = options or {}, np.random.default_rng(seed)
        self._place = generator.uniform(-0.3, 0.3, 2).astype(np.float32)
        angle = generator.uniform(0, 2 * np.pi)
        there = 0.7 * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
        self._dots = {"red": there, "blue": -there}
        self._goal, other = generator.permutation(list(COLOURS)).tolist()
        self._family = str(options.get("family") or generator.choice(["touch", "grip"]))
        self._task = f"{self._family} the {other if options.get('swap') else self._goal} dot"
        self._open, self._steps = 1.0, 0
        return self._observe(), self._info()

    def step(
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[Mapping[str, Any], float, bool, bool, Mapping[str, Any]]:
        """Move by ``action[:2]``, at most 0.25 m an axis; ``action[2]`` below 0.5 closes the gripper."""
        self._steps += 1
        self._place = np.clip(self._place + np.clip(action[:2], -STEP, STEP), -1, 1).astype(np.float32)
        self._open = float(action[2] >= 0.5)
        done = bool(self._info()["is_success"])
        return self._observe(), float(done), done, not done and self._steps >= self._max_steps, self._info()

    def expert_action(self) -> Vector:
        """Return the straight way to the goal; the gripper closes once it is near."""
        way = np.clip(self._dots[self._goal] - self._place, -STEP, STEP)
        closed = self._family == "grip" and float(np.abs(self._dots[self._goal] - self._place).max()) <= STEP
        return np.array([*way, 0.0 if closed else 1.0], dtype=np.float32)

    def close(self) -> None:
        """Hold nothing, free nothing."""

    def _info(self) -> Mapping[str, Any]:
        near = float(np.linalg.norm(self._dots[self._goal] - self._place)) <= NEAR
        return {"is_success": near and self._open == float(self._family == "touch"), "family": self._family}

    def _observe(self) -> Mapping[str, Any]:
        return {
            "observation.images.primary": _through_jpeg(self._draw(centre=np.zeros(2, dtype=np.float32))),
            "observation.images.wrist": _through_jpeg(self._draw(centre=self._place)),
            "observation.state": np.array([*self._place, self._open], dtype=np.float32),
            "task": self._task,
        }

    def _draw(self, *, centre: Vector) -> NDArray[np.uint8]:
        picture = np.full((SIZE, SIZE, 3), 200, dtype=np.uint8)
        for name, place in self._dots.items():
            _paint(picture, place - centre, COLOURS[name])
        _paint(picture, self._place - centre, (0, 0, 0))
        return picture


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return RGB pixels [height, width, 3] as JPEG bytes."""
    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95, colorsubsampling="444")
    return data


def _through_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what a recording of the picture gives back: the robot's cameras promise the codec."""
    seen: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg(pixels))
    return seen


def _paint(picture: NDArray[np.uint8], place: Vector, colour: tuple[int, int, int]) -> None:
    column, row = np.clip((place + 1) / 2 * SIZE, 2, SIZE - 2).astype(int)
    picture[row - 2 : row + 2, column - 2 : column + 2] = colour
