"""From a trajectory, as a data set's own features name it, to an episode, as its card says.

Legend of shapes: T steps, A action numbers, P state numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import ContractMismatch, DataError, RecipeError
from openvla_toolkit.core.types import ADDRESS_FIELDS, Episode
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import FeaturesDict
from openvla_toolkit.datasets.rlds.robot import recorded_robot
from openvla_toolkit.datasets.rlds.trajectory import find, numbers, texts
from openvla_toolkit.datasets.trace import trace, transformed
from openvla_toolkit.interfaces.transform import KEEP, Passed, Trajectory

__all__ = ["EpisodesByCard"]

ADDRESS = np.dtype(ADDRESS_FIELDS)


class EpisodesByCard:
    """Makes episodes of one data set's trajectories (``interfaces.dataset.EpisodeMaker``)."""

    def __init__(self, card: DatasetCard, features: FeaturesDict, *, dataset: str) -> None:
        self.card, self._features, self._dataset = card, features, dataset
        self._transforms = [transform.build() for transform in card.transforms]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_transforms"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Functions of a plugin need not be picklable: their settings are.
        self._transforms = [transform.build() for transform in self.card.transforms]

    @property
    def cameras(self) -> list[str]:
        """The cameras of every episode."""
        return list(self.card.cameras)

    @property
    def robot(self) -> Interface | None:
        """The robot that was recorded, cameras as large as the features say."""
        return recorded_robot(self.card, self._features)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the episodes depend on beside the data: a part of its fingerprint."""
        return self.card.model_dump(mode="json", exclude={"embodiment", "generated"})

    def __call__(self, trajectory: Trajectory, *, name: str) -> Episode:
        """Apply the transforms and pick out what the card names; ``name`` is the episode's.

        Raises:
            DataError: a number is not finite, a picture has no bytes, arrays differ in length, or the
                transforms leave nothing; names frame and key.
            RecipeError: a key of cameras, state, instruction or action does not exist in the trajectory.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
        """
        trajectory = transformed(trajectory, self._transforms, self.card.transforms)
        actions = numbers(find(trajectory, self.card.action, setting="action"), key=self.card.action)
        observation = trajectory.get("observation", {})
        images = {camera: self._camera(observation, camera) for camera in self.card.cameras}
        instructions = texts(
            find(trajectory, self.card.instruction, setting="instruction"), key=self.card.instruction
        )
        state = self._state(observation, len(actions))
        lengths = {f"cameras.{camera}": len(image) for camera, image in images.items()}
        lengths |= {"instruction": len(instructions), "state": len(actions if state is None else state)}
        for key, length in lengths.items():
            if length != len(actions):
                raise DataError(f"it has {length} frames, the actions have {len(actions)}.", key=key)
        self._check_sizes(actions, state)
        keep = trajectory.get(KEEP)
        return Episode(
            name=name,
            images=images,
            states=state,
            actions=actions,
            instructions=instructions,
            keep=None if keep is None else np.asarray(keep, dtype=bool),
        )

    def trace(self, trajectory: Trajectory) -> list[Passed]:
        """Return how many frames a trajectory has as recorded, and after each transform."""
        return trace(trajectory, self._transforms, self.card.transforms)

    def _camera(self, observation: Any, camera: str) -> NDArray[Any]:
        key = self.card.cameras[camera]
        addresses = find(observation, key, setting=f"cameras.{camera}")
        if getattr(addresses, "dtype", None) != ADDRESS:
            raise RecipeError(f"'observation/{key}' does not hold images.", path=f"cameras.{camera}")
        found: NDArray[Any] = addresses
        if len(empty := np.flatnonzero(found["length"] == 0)):
            raise DataError(
                "the picture has no bytes. Mend the data, or leave the episode out with on_error: skip.",
                frame=int(empty[0]),
                key=f"observation/{key}",
            )
        return found

    def _state(self, observation: Any, length: int) -> NDArray[np.float32] | None:
        if not self.card.state:
            return None
        parts = [
            np.zeros((length, 1), np.float32)
            if key is None
            else numbers(find(observation, key, setting=f"state.{index}"), key=f"observation/{key}")
            for index, key in enumerate(self.card.state)
        ]
        if any(len(part) != length for part in parts):
            raise DataError(
                f"its parts have {[len(part) for part in parts]} frames, the actions {length}.", key="state"
            )
        return np.concatenate(parts, axis=1)

    def _check_sizes(self, actions: NDArray[np.float32], state: NDArray[np.float32] | None) -> None:
        robot = self.card.embodiment
        if robot is None:
            return
        for what, found, described in (("action", actions, robot.action), ("state", state, robot.state)):
            if found is not None and described and found.shape[1] != len(described):
                names = ", ".join(dimension.name for dimension in described)
                raise ContractMismatch(
                    f"{self._dataset}: the {what} has {found.shape[1]} numbers, the embodiment "
                    f"'{robot.name}' describes {len(described)} ({names}). Give the embodiment that was "
                    "recorded, or the transforms that bring the data to it."
                )
