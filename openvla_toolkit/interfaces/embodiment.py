"""Kind ``embodiment``: a robot as data: cameras, state and action vectors, control rate."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.registry import by_name

__all__ = ["AnyEmbodiment", "EmbodimentConfig"]


class EmbodimentConfig(ComponentConfig):
    """One robot. A plugin is a subclass whose defaults are the robot's numbers; there is no code to write."""

    kind: ClassVar[str] = "embodiment"

    cameras: dict[str, Camera]
    """Camera name -> what it delivers."""
    state: tuple[Dimension, ...] = ()
    """Proprioception, one entry per number."""
    action: tuple[Dimension, ...]
    """One entry per number of an action."""
    control_hz: float = Field(gt=0)
    """Actions per second."""

    def build(self) -> Interface:
        """Return the robot's side of a contract."""
        return Interface(
            cameras=self.cameras, state=self.state, action=self.action, control_hz=self.control_hz
        )


AnyEmbodiment: TypeAlias = Annotated[SerializeAsAny[EmbodimentConfig], BeforeValidator(by_name("embodiment"))]
