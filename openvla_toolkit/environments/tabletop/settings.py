"""Settings of the tabletop world: a variant of robot and scene is other numbers here, not other code."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

Family = Literal["touch", "push", "pick", "put", "turn"]
Colour = Literal["red", "green", "blue", "yellow", "white", "purple", "orange", "cyan", "black", "pink"]
Shape = Literal["cube", "cylinder", "ball", "prism"]


class CameraPose(BaseModel):
    """Place the primary camera on a sphere around the middle of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    azimuth: float = 0.0
    """Degrees around the table, counter-clockwise; 0 looks from the robot's side, so left stays left."""
    elevation: float = Field(default=48.0, gt=5.0, le=89.0)
    """Degrees above the table."""
    distance: float = Field(default=0.80, gt=0.3)
    """Metres to the middle of the table."""
    field_of_view: float = Field(default=34.0, gt=5.0, lt=120.0)
    """Degrees from edge to edge of the square picture."""


class TabletopWorld(BaseModel):
    """Describe one tabletop world: what lies on it, who looks at it, what may be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: tuple[Family, ...] = ("touch", "push", "pick", "put")
    colours: tuple[Colour, ...] = ("red", "green", "blue", "yellow", "white")
    shapes: tuple[Shape, ...] = ("cube", "cylinder")
    objects_min: int = Field(default=2, ge=2)
    objects_max: int = Field(default=3, le=4)
    camera: CameraPose = CameraPose()
    image_size: int = Field(default=64, ge=16)
    """Side of both observed views, pixels."""
    render_size: int = Field(default=192, ge=16)
    """Side of the picture that ``render()`` returns, pixels."""
    move_limit: float = Field(default=0.05, gt=0.0)
    """Largest movement along one axis in one step, metres."""
    turn_limit: float = Field(default=0.25, gt=0.0)
    """Largest rotation about one axis in one step, radians."""
    max_steps: int = Field(default=40, ge=1)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.objects_max < self.objects_min:
            raise ValueError("objects_max must not be smaller than objects_min.")
        if len(set(self.colours)) < self.objects_max:
            raise ValueError(
                "colours must hold at least objects_max different ones: no two objects share one."
            )
        if not self.families or not self.shapes:
            raise ValueError("families and shapes must not be empty.")
        if "put" in self.families and not set(self.shapes) & {"cube", "cylinder", "prism"}:
            raise ValueError("the family put needs a shape with a flat top: cube, cylinder or prism.")
        return self
