"""The embedded tabletop world: environment, robot and scenes as light settings; the code is beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig
from openvla_toolkit.interfaces.environment import EnvironmentConfig

if TYPE_CHECKING:
    from openvla_toolkit.environments.tabletop.conversations import TabletopScenes
    from openvla_toolkit.environments.tabletop.env import TabletopEnv

__all__ = ["TabletopConfig", "TabletopRobotConfig", "TabletopScenesConfig"]

_STATE = tuple(
    Dimension(name=name, unit=unit, reference="absolute", rotation=rotation, gripper=gripper)
    for name, unit, rotation, gripper in (
        ("x", "m", None, None),
        ("y", "m", None, None),
        ("z", "m", None, None),
        ("roll", "rad", "euler_xyz", None),
        ("pitch", "rad", "euler_xyz", None),
        ("yaw", "rad", "euler_xyz", None),
        ("gripper", "1", None, "open_high"),
    )
)
_ACTION = tuple(
    dimension if dimension.gripper else dimension.model_copy(update={"reference": "delta"})
    for dimension in _STATE
)


class TabletopRobotConfig(EmbodimentConfig):
    """The gripper over the table: end-effector deltas in metres and radians, gripper 1 = open."""

    name: Literal["tabletop"] = "tabletop"
    cameras: dict[str, Camera] = {
        "primary": Camera(height=64, width=64),
        "wrist": Camera(height=64, width=64),
    }
    state: tuple[Dimension, ...] = _STATE
    action: tuple[Dimension, ...] = _ACTION
    control_hz: float = 5.0


class TabletopConfig(EnvironmentConfig):
    """A table, a gripper, a few coloured objects and an instruction that decides which one matters."""

    name: Literal["tabletop"] = "tabletop"
    world: TabletopWorld = TabletopWorld()
    """What lies on the table, who looks at it, what may be asked."""

    def build(self) -> TabletopEnv:
        """Make one environment."""
        from openvla_toolkit.environments.tabletop.env import TabletopEnv

        return TabletopEnv(self.world)

    def interface(self) -> Interface:
        """Return the robot with both cameras at this world's size."""
        camera = Camera(height=self.world.image_size, width=self.world.image_size)
        return TabletopRobotConfig(cameras={"primary": camera, "wrist": camera}).build()

    def families(self) -> tuple[str, ...]:
        """Return the task families of this world."""
        return self.world.families


class TabletopScenesConfig(DatasetConfig):
    """Vision-language data: generated tabletop scenes, and where everything lies on them."""

    name: Literal["tabletop-scenes"] = "tabletop-scenes"
    world: TabletopWorld = TabletopWorld()
    """Colours, shapes, cameras and picture size of the scenes."""
    items: int = Field(default=100_000, gt=0)
    """How many different scenes there are."""
    seed: int = Field(default=0, ge=0)

    def build(self) -> TabletopScenes:
        """Make the data set; scenes are drawn when they are asked for."""
        from openvla_toolkit.environments.tabletop.conversations import TabletopScenes

        return TabletopScenes(self)
