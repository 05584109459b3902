"""Transforms: one trajectory in, one trajectory out, in plain NumPy.

Those of Open X-Embodiment bring each data set to one convention: actions are changes of position and
orientation and an absolute gripper (1 open, 0 closed), the instruction is ``language_instruction``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from openvla_toolkit.interfaces.transform import Trajectory, TransformConfig

__all__ = ["OpenXConfig", "SkipIdleConfig"]


class OpenXConfig(TransformConfig):
    """The standardisation of one data set of Open X-Embodiment (73 are known), as OpenVLA does it."""

    name: Literal["open-x"] = "open-x"
    dataset: str
    """The data set whose standardisation it is: ``bridge_orig``, ``fractal20220817_data``, ``droid``, ..."""

    def build(self) -> Callable[[Trajectory], Trajectory]:
        """Return the function.

        Raises:
            RecipeError: no such data set is known; suggests the nearest name.
        """
        from openvla_toolkit.transforms.open_x.lookup import standardization

        return standardization(self.dataset)


class SkipIdleConfig(TransformConfig):
    """Make no samples from frames in which the robot does not move; statistics still count them."""

    name: Literal["skip-idle"] = "skip-idle"
    threshold: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=(1e-5,) * 6, min_length=1)
    """What the first numbers of an action must not all stay below, in the units of the action, either way."""

    def build(self) -> Callable[[Trajectory], Trajectory]:
        """Return the function."""
        from openvla_toolkit.transforms.idle import SkipIdle

        return SkipIdle(self.threshold)
