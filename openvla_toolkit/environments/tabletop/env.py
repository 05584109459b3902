"""The tabletop as a Gymnasium environment."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from openvla_toolkit.environments.tabletop.drawing import draw_primary, draw_wrist
from openvla_toolkit.environments.tabletop.expert import expert_action
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.tasks import Task, new_scene
from openvla_toolkit.environments.tabletop.world import State, advance

Observation = dict[str, Any]


class TabletopEnv(gymnasium.Env[Observation, np.ndarray]):
    """Ask for one task per episode; an episode ends with success or after ``world.max_steps`` steps.

    Actions ``[7]``: movement x, y, z (m), rotation roll, pitch, yaw (rad), gripper (1 open, 0 closed).
    ``reset`` takes ``options={"family": name, "swap": bool}``: ``swap`` words the instruction for another
    object of the scene while the scene and the test of success stay the same.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, world: TabletopWorld | None = None, *, render_mode: str | None = None) -> None:
        self.world = world or TabletopWorld()
        self.render_mode = render_mode
        view = spaces.Box(0, 255, (self.world.image_size, self.world.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "observation.images.primary": view,
                "observation.images.wrist": view,
                "observation.state": spaces.Box(-np.inf, np.inf, (7,), np.float32),
                "task": spaces.Text(max_length=120, charset=string.ascii_lowercase + " "),
            }
        )
        limit = np.array([self.world.move_limit] * 3 + [self.world.turn_limit] * 3 + [1.0], dtype=np.float32)
        self._low, self._high = np.append(-limit[:6], np.float32(0.0)), limit
        self.action_space = spaces.Box(self._low, self._high, dtype=np.float32)
        self._steps = 0
        self._state: State | None = None
        self._task: Task | None = None
        self._instruction = ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a new scene and task; ``options`` may fix the family and swap the named object."""
        super().reset(seed=seed)
        options = options or {}
        family = options.get("family") or str(self.np_random.choice(self.world.families))
        if family not in self.world.families:
            known = ", ".join(self.world.families)
            raise ValueError(f"No task family {family!r} in this world: choose one of {known}.")
        self._state, self._task = new_scene(self.world, self.np_random, family)
        self._steps = 0
        named = self._task
        others = [i for i in range(len(self._state.things)) if i != self._task.target]
        choice = int(self.np_random.choice(others))
        if options.get("swap"):
            named = self._task.about(choice)
        self._instruction = named.instruction(self._state)
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one step; the action is clipped to the action space. The reward is 1 on success, else 0."""
        advance(self.state, np.clip(action, self._low, self._high).tolist())
        self._steps += 1
        info = self._info()
        success = bool(info["is_success"])
        truncated = not success and self._steps >= self.world.max_steps
        return self._observe(), float(success), success, truncated, info

    def expert_action(self) -> np.ndarray:
        """Return the expert's action ``[7]``, float32, for the current state and the true task."""
        return expert_action(self.world, self.state, self.task)

    def render(self) -> np.ndarray:
        """Draw the primary view at ``world.render_size``: ``[H, W, 3]``, uint8."""
        return draw_primary(self.state, self.world.camera, size=self.world.render_size)

    @property
    def state(self) -> State:
        """The true state of the scene."""
        if self._state is None:
            raise gymnasium.error.ResetNeeded("TabletopEnv has no scene yet: call reset() first.")
        return self._state

    @property
    def task(self) -> Task:
        """The task on which success is judged."""
        if self._task is None:
            raise gymnasium.error.ResetNeeded("TabletopEnv has no task yet: call reset() first.")
        return self._task

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self.task.succeeded(self.state),
            "family": self.task.family,
            "steps": self._steps,
        }

    def _observe(self) -> Observation:
        state, size = self.state, self.world.image_size
        numbers = [state.x, state.y, state.z, state.roll, state.pitch, state.yaw, float(state.open)]
        return {
            "observation.images.primary": draw_primary(state, self.world.camera, size=size),
            "observation.images.wrist": draw_wrist(state, size=size),
            "observation.state": np.array(numbers, dtype=np.float32),
            "task": self._instruction,
        }
