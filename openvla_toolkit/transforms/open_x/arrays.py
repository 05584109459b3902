"""Operations on trajectories and their columns; none changes its argument.

Legend of shapes: T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.interfaces.transform import Trajectory

__all__ = ["Floats", "join", "map_leaves", "revised", "told", "zeros"]

Floats: TypeAlias = NDArray[np.float32]


def map_leaves(tree: Trajectory, function: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, Any]:
    """Apply a function to every array of a trajectory."""
    return {
        name: map_leaves(inner, function) if isinstance(inner, Mapping) else function(inner)
        for name, inner in tree.items()
    }


def revised(
    trajectory: Trajectory, *, observation: Mapping[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return the trajectory with some keys, and some keys of its observation, set anew."""
    seen = {**trajectory["observation"], **(observation or {})}
    return {**trajectory, "observation": seen, **changes}


def told(trajectory: Trajectory) -> NDArray[Any]:
    """Return the instruction where the data sets of RT-X keep it."""
    instruction: NDArray[Any] = trajectory["observation"]["natural_language_instruction"]
    return instruction


def join(*parts: NDArray[Any]) -> Floats:
    """Put columns side by side, as float32."""
    joined: Floats = np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=-1)
    return joined


def zeros(like: NDArray[Any], width: int) -> Floats:
    """Return [T, width] zeros for as many steps as another array has."""
    return np.zeros((len(like), width), np.float32)
