"""What an episode must be like to be indexed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Dimension, Interface
from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.types import DataDescription, Episode

__all__ = ["Model", "check_episode", "check_widths", "kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all episodes of a data set have in common: the embodiment's, and what only the first one tells."""

    name: str
    """The first episode, for errors about others."""
    actions: int
    """Numbers of an action."""
    states: int | None
    """Numbers of a state, or None where there is none."""
    cameras: tuple[str, ...]
    robot: Interface | None
    """The embodiment, which knows the widths where it describes a vector."""

    @classmethod
    def of(cls, episode: Episode, description: DataDescription) -> Model:
        """Take an episode as the model of the others."""
        robot = description.robot
        action, state = ((), ()) if robot is None else (robot.action, robot.state)
        return cls(
            name=episode.name,
            actions=len(action) or episode.actions.shape[1],
            states=None if episode.states is None else len(state) or episode.states.shape[1],
            cameras=tuple(description.cameras),
            robot=robot,
        )


def check_episode(episode: Episode, model: Model) -> None:
    """Check that an episode is whole, finite, and of the widths of the model.

    Raises:
        DataError: names episode, key and, where there is one, frame.
    """
    frames = len(episode)
    if frames == 0:
        raise DataError("the episode has no frames.", episode=episode.name)
    action, state = ((), ()) if model.robot is None else (model.robot.action, model.robot.state)
    _check_vectors(episode, "action", episode.actions, model.actions, action, model)
    _check_vectors(episode, "observation.state", episode.states, model.states, state, model)
    if len(episode.instructions) != frames:
        raise DataError(
            f"expected {frames} instructions, found {len(episode.instructions)}.",
            episode=episode.name,
            key="task",
        )
    if kept(episode).shape != (frames,):
        raise DataError(
            f"expected one value per frame ({frames}), found {kept(episode).shape}.",
            episode=episode.name,
            key="keep",
        )
    for camera in model.cameras:
        count = len(episode.images.get(camera, ()))
        if count != frames:
            key = f"observation.images.{camera}"
            raise DataError(f"expected {frames} images, found {count}.", episode=episode.name, key=key)


def check_widths(robot: Interface, *, actions: int, states: int | None, place: str) -> None:
    """Check that actions and states are as wide as a robot's, where it describes them.

    Raises:
        ContractMismatch: one is not; names both numbers and ``place``, where the vectors are.
    """
    for what, found, described in (("action", actions, robot.action), ("state", states, robot.state)):
        if found is not None and described and found != len(described):
            raise ContractMismatch(
                f"{place}: the {what} has {found} numbers, the embodiment describes {len(described)} "
                f"({_names(described)}). Give the embodiment that was recorded, or the transforms that bring "
                "the data to it."
            )


def kept(episode: Episode) -> NDArray[np.bool_]:
    """Return [T], True for the frames from which a sample is made."""
    return np.ones(len(episode), dtype=bool) if episode.keep is None else episode.keep


def _names(described: Sequence[Dimension]) -> str:
    return ", ".join(dimension.name for dimension in described)


def _check_vectors(
    episode: Episode,
    key: str,
    values: NDArray[np.float32] | None,
    width: int | None,
    described: Sequence[Dimension],
    model: Model,
) -> None:
    """Check that a vector is there for every frame, finite, and as wide as described, or as in the model."""
    expected = None if width is None else (len(episode), width)
    found = None if values is None else values.shape
    if found != expected:
        by_robot = f"as the embodiment describes it ({_names(described)})"
        by_model = f"as wide as in {model.name}"
        raise DataError(
            f"expected shape {expected}, {by_robot if described and expected else by_model}; found {found}. "
            "Mend the episode, or give the embodiment that was recorded.",
            episode=episode.name,
            key=key,
        )
    if values is not None and len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        raise DataError("a value is not finite.", episode=episode.name, frame=int(bad[0]), key=key)
