"""How to read a LeRobot data set as robot episodes: cameras, vectors, instruction, the robot.

The recipe answers first, then ``meta/openvla.yaml`` (our writer leaves one), then the set itself: GR00T's
``modality.json`` where it has one, else LeRobot's keys. The robot is never guessed: a set names its numbers,
but says neither their units nor whether they are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from openvla_toolkit.core.complaints import recipe_error, validated
from openvla_toolkit.core.component import Section
from openvla_toolkit.core.contract import Camera, Interface
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.layers import Layered, Place
from openvla_toolkit.core.yaml_lines import parse_file
from openvla_toolkit.datasets.lerobot.layout import Layout
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment
from openvla_toolkit.interfaces.transform import AnyTransform

__all__ = ["CARD", "LeRobotCard", "complete", "recorded_robot", "save_card"]

CARD = Path("meta", "openvla.yaml")
IMAGES = "observation.images."


class LeRobotCard(Section):
    """How to read the set; keys are features, or ``<kind>.<part>`` of GR00T's ``modality.json``."""

    cameras: dict[str, str] = Field(min_length=1)
    """Camera name -> feature (``observation.images.front``) or part (``video.front``)."""
    state: list[str] = Field(default=[])
    """Features (``observation.state``) or parts (``state.single_arm``), joined in order."""
    action: list[str] = Field(default=["action"], min_length=1)
    """Features or parts (``action.single_arm``), joined in order."""
    instruction: str = "task_index"
    """A column with numbers of tasks or with text, or a part (``annotation.human.task_description``)."""
    transforms: list[AnyTransform] = Field(default=[])
    """Applied to each trajectory (keys: the set's columns and pictures) before keys are looked up."""
    embodiment: AnyEmbodiment
    """The robot that was recorded."""


def complete(given: Mapping[str, Any], layout: Layout) -> LeRobotCard:
    """Return the card: what the recipe gives (not None) over the one that is found, over the set's own words.

    Raises:
        RecipeError: nothing says which robot was recorded; gives the lines to paste.
    """
    path = layout.folder / CARD
    found = _load(path) if path.is_file() else {}
    known = _of_the_set(layout) | found | {key: value for key, value in given.items() if value is not None}
    if not known["cameras"]:
        raise RecipeError(
            f"{layout.folder} holds no pictures (no feature 'image' or 'video').", path="cameras"
        )
    if known.get("embodiment") is None:
        raise RecipeError(_how_to_describe(layout, known), path="embodiment")
    return validated(LeRobotCard, known)


def save_card(card: LeRobotCard, folder: Path) -> None:
    """Write a card into a data set's folder."""
    (folder / CARD).write_text(
        yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )


def recorded_robot(card: LeRobotCard, layout: Layout, pictures: Mapping[str, str]) -> Interface:
    """Return the card's robot with the picture sizes of the set; ``pictures`` is camera -> feature."""
    robot = card.embodiment.build()
    cameras = {**robot.cameras}
    for name, key in pictures.items():
        size = layout.features[key].size
        if size is None:
            continue
        update = {"height": size[0], "width": size[1]}
        known = cameras.get(name)
        cameras[name] = Camera(**update) if known is None else known.model_copy(update=update)
    return robot.model_copy(update={"cameras": cameras})


def _load(path: Path) -> dict[str, Any]:
    data, lines = parse_file(path.read_bytes(), file=path)
    try:
        card = LeRobotCard.model_validate(data)
    except ValidationError as error:
        places = {key: Place(str(path), line) for key, line in lines.items()}
        raise recipe_error(error, Layered(data, places), LeRobotCard) from None
    return {key: getattr(card, key) for key in LeRobotCard.model_fields}


def _of_the_set(layout: Layout) -> dict[str, Any]:
    parts = layout.modality
    cameras = {name: f"video.{name}" for name in parts.get("video", {})}
    state = [f"state.{name}" for name in parts.get("state", {})]
    action = [f"action.{name}" for name in parts.get("action", {})]
    return {
        "cameras": cameras or {_camera(key): key for key in layout.cameras},
        "state": state or [key for key in ("observation.state",) if key in layout.features],
        "action": action or ["action"],
    }


def _camera(key: str) -> str:
    return key.removeprefix(IMAGES).removeprefix("observation.")


def _how_to_describe(layout: Layout, known: Mapping[str, Any]) -> str:
    def dimensions(key: str) -> list[str]:
        feature = layout.features.get(key)
        count = feature.shape[0] if feature and feature.shape else 0
        named = feature is not None and len(feature.names) == count
        names = feature.names if feature and named else tuple(f"{key}_{number}" for number in range(count))
        return [f"    - {{name: {name}, unit: '1', reference: absolute}}" for name in names]

    cameras = []
    for name, key in known["cameras"].items():
        feature = layout.features.get(key)
        height, width = (feature.size if feature else None) or ("...", "...")
        cameras.append(f"{name}: {{height: {height}, width: {width}}}")
    lines = [f"which robot was recorded is not known from {layout.folder / CARD}."]
    lines += ["Give it to the data set in the recipe, with the true units and references, for instance:"]
    lines += ["embodiment:", "  name: custom", f"  control_hz: {layout.fps:g}"]
    lines += [f"  cameras: {{{', '.join(cameras)}}}"]
    lines += ["  state:", *dimensions("observation.state"), "  action:", *dimensions("action")]
    return "\n".join(lines)
