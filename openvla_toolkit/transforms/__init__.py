"""Transforms: one trajectory in, one trajectory out, in plain NumPy.

Those of Open X-Embodiment bring each data set to one convention: actions are changes of position and
orientation and an absolute gripper (1 open, 0 closed), the instruction is ``language_instruction``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from openvla_toolkit.interfaces.transform import Trajectory, TransformConfig

__all__ = ["BridgeOrigConfig", "FractalConfig", "LiberoConfig", "OpenXConfig"]


class OpenXConfig(TransformConfig):
    """A standardisation of Open X-Embodiment: its name is all there is to set."""

    def build(self) -> Callable[[Trajectory], Trajectory]:
        """Return the function that bears the component's name."""
        from openvla_toolkit.transforms.open_x import STANDARDIZATIONS

        return STANDARDIZATIONS[self.name]


class BridgeOrigConfig(OpenXConfig):
    """BridgeData V2 as its project publishes it (``bridge_orig``, ``bridge_dataset``)."""

    name: Literal["bridge-orig"] = "bridge-orig"


class FractalConfig(OpenXConfig):
    """The RT-1 data (``fractal20220817_data``)."""

    name: Literal["fractal"] = "fractal"


class LiberoConfig(OpenXConfig):
    """LIBERO demonstrations without idle steps (``libero_*_no_noops``)."""

    name: Literal["libero"] = "libero"
