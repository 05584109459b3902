"""Robots as data: cameras, state and action vectors, control rate.

The numbers are those of the data after its standardisation, which is what policies are trained on.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openvla_toolkit.core.contract import Camera, Dimension, Rotation
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig

__all__ = ["CustomConfig", "FrankaLiberoConfig", "GoogleRobotConfig", "WidowXConfig"]

Reference = Literal["delta", "absolute"]


def _position(reference: Reference, *, unit: str = "m") -> tuple[Dimension, ...]:
    return tuple(Dimension(name=name, unit=unit, reference=reference) for name in ("x", "y", "z"))


def _orientation(
    reference: Reference,
    *,
    names: tuple[str, ...] = ("roll", "pitch", "yaw"),
    unit: str = "rad",
    rotation: Rotation,
) -> tuple[Dimension, ...]:
    return tuple(Dimension(name=name, unit=unit, reference=reference, rotation=rotation) for name in names)


def _gripper(name: str = "gripper", *, unit: str = "1", high: Literal["open_high", "open_low"]) -> Dimension:
    return Dimension(name=name, unit=unit, reference="absolute", gripper=high)


PAD = Dimension(name="pad", unit="1", reference="absolute")
"""A column of zeros that Open X-Embodiment keeps between orientation and gripper."""

EULER_ACTION = (
    *_position("delta"),
    *_orientation("delta", rotation="euler_xyz"),
    _gripper(high="open_high"),
)


class WidowXConfig(EmbodimentConfig):
    """WidowX 250 of BridgeData V2."""

    name: Literal["widowx"] = "widowx"
    cameras: dict[str, Camera] = Field(default={"primary": Camera(height=256, width=256, codec=("jpeg",))})
    state: tuple[Dimension, ...] = (
        *_position("absolute"),
        *_orientation("absolute", rotation="euler_xyz"),
        PAD,
        _gripper(high="open_high"),
    )
    action: tuple[Dimension, ...] = EULER_ACTION
    control_hz: float = 5.0


class GoogleRobotConfig(EmbodimentConfig):
    """The mobile manipulator of RT-1."""

    name: Literal["google-robot"] = "google-robot"
    cameras: dict[str, Camera] = Field(default={"primary": Camera(height=256, width=320, codec=("jpeg",))})
    state: tuple[Dimension, ...] = (
        *_position("absolute"),
        *_orientation("absolute", names=("qx", "qy", "qz", "qw"), unit="1", rotation="quat_xyzw"),
        _gripper("gripper_closed", high="open_low"),
    )
    action: tuple[Dimension, ...] = EULER_ACTION
    control_hz: float = 3.0


class FrankaLiberoConfig(EmbodimentConfig):
    """Franka Panda in LIBERO, its pictures turned upright.

    Actions are the inputs of robosuite's OSC_POSE controller: 1 stands for 0.05 m or 0.5 rad per step.
    """

    name: Literal["franka-libero"] = "franka-libero"
    cameras: dict[str, Camera] = Field(
        default={
            "primary": Camera(height=256, width=256, rotation=180, codec=("jpeg",)),
            "wrist": Camera(height=256, width=256, rotation=180, codec=("jpeg",)),
        }
    )
    state: tuple[Dimension, ...] = (
        *_position("absolute"),
        *_orientation("absolute", names=("rx", "ry", "rz"), rotation="axis_angle"),
        PAD,
        _gripper("left_finger", unit="m", high="open_high"),
        _gripper("right_finger", unit="m", high="open_low"),
    )
    action: tuple[Dimension, ...] = (
        *_position("delta", unit="0.05 m"),
        *_orientation("delta", names=("rx", "ry", "rz"), unit="0.5 rad", rotation="axis_angle"),
        _gripper(high="open_high"),
    )
    control_hz: float = 20.0


class CustomConfig(EmbodimentConfig):
    """Any robot, described in the recipe or in the ``openvla.yaml`` beside its data."""

    name: Literal["custom"] = "custom"
