"""The robot of a data set: the embodiment's numbers, with the cameras as they were really recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openvla_toolkit.core.contract import Camera, Interface
from openvla_toolkit.datasets.rlds.features import Dataset, FeaturesDict, Image, Sequence

if TYPE_CHECKING:
    from openvla_toolkit.datasets.rlds.card import DatasetCard

__all__ = ["recorded_robot", "recorded_size"]


def recorded_robot(card: DatasetCard, features: FeaturesDict) -> Interface | None:
    """Return the card's robot with the picture sizes of ``features.json``, or None where the card has none.

    An embodiment says what cameras deliver; a data set may hold it resized. Where the features leave
    the size open, the embodiment's stands.
    """
    if card.embodiment is None:
        return None
    robot = card.embodiment.build()
    cameras = {**robot.cameras}
    for name, key in card.cameras.items():
        height, width = recorded_size(features, key)
        if height is None or width is None:
            continue
        size = {"height": height, "width": width}
        known = cameras.get(name)
        cameras[name] = Camera(**size) if known is None else known.model_copy(update=size)
    return robot.model_copy(update={"cameras": cameras})


def recorded_size(features: FeaturesDict, key: str) -> tuple[int | None, int | None]:
    """Return height and width of an observation's pictures as far as the features tell."""
    steps = features.features.get("steps")
    here = steps.feature if isinstance(steps, (Dataset, Sequence)) else None
    for part in ("observation", *key.split("/")):
        here = here.features.get(part) if isinstance(here, FeaturesDict) else None
    return (here.shape[0], here.shape[1]) if isinstance(here, Image) else (None, None)
