"""A robot that moves over a plane with two dots, told which dot to go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig
from openvla_toolkit.interfaces.environment import EnvironmentConfig

if TYPE_CHECKING:
    from openvla_toolkit.testing.fakes.episodes import DotsEpisodes
    from openvla_toolkit.testing.fakes.world import DotsWorld

__all__ = ["DotsConfig", "DotsEpisodesConfig", "DotsRobotConfig"]

_CAMERA = Camera(height=32, width=32, codec=("jpeg",))
_GRIPPER = Dimension(name="gripper", unit="1", reference="absolute", gripper="open_high")


class DotsRobotConfig(EmbodimentConfig):
    """A point with a gripper and two cameras of 32 pixels."""

    name: Literal["dots-robot"] = "dots-robot"
    cameras: dict[str, Camera] = Field(default={"primary": _CAMERA, "wrist": _CAMERA})
    state: tuple[Dimension, ...] = (
        Dimension(name="x", unit="m", reference="absolute"),
        Dimension(name="y", unit="m", reference="absolute"),
        _GRIPPER,
    )
    action: tuple[Dimension, ...] = (
        Dimension(name="x", unit="m", reference="delta"),
        Dimension(name="y", unit="m", reference="delta"),
        _GRIPPER,
    )
    control_hz: float = 5.0


class DotsConfig(EnvironmentConfig):
    """A plane with a red and a blue dot."""

    name: Literal["dots"] = "dots"
    max_steps: int = Field(default=12, gt=0)
    """Steps after which an episode is cut off."""

    def build(self) -> DotsWorld:
        """Make one world."""
        from openvla_toolkit.testing.fakes.world import DotsWorld

        return DotsWorld(self)

    def interface(self) -> Interface:
        """Return the robot."""
        return DotsRobotConfig().build()

    def families(self) -> tuple[str, ...]:
        """Return the two task families."""
        return ("touch", "grip")


class DotsEpisodesConfig(DatasetConfig):
    """Episodes of the world's expert, held in memory, their pictures as JPEG bytes."""

    name: Literal["dots-episodes"] = "dots-episodes"
    dataset: str = "dots"
    """The name of its statistics."""
    episodes: int = Field(default=4, gt=0)
    """How many there are."""
    seed: int = 0
    """Episode number i starts from ``seed + i``."""

    def build(self) -> DotsEpisodes:
        """Let the expert act."""
        from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

        return DotsEpisodes(self)
