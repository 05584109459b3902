"""How to read a data set as robot episodes: which feature is which camera, which robot was recorded.

The answer comes from the recipe, else from ``openvla.yaml`` beside ``dataset_info.json``, else from the
catalog that ships with the toolkit; each answers only what those before it leave open.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from openvla_toolkit.core.complaints import recipe_error
from openvla_toolkit.core.component import Section
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.layers import Layered, Place
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.core.yaml_lines import parse_file
from openvla_toolkit.datasets.rlds.catalog import look_up
from openvla_toolkit.datasets.rlds.features import Feature, FeaturesDict, Image, Scalar, Tensor, Text, leaves
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment
from openvla_toolkit.interfaces.transform import AnyTransform

__all__ = ["CARD", "DatasetCard", "addressed", "complete", "find_card", "load_card", "save_card"]

CARD = "openvla.yaml"
_OBSERVATION = "observation/"


class DatasetCard(Section):
    """What ``features.json`` does not say; keys are paths in a trajectory after the transforms."""

    cameras: dict[str, str] = Field(min_length=1)
    """Camera name -> key of the observation that holds its pictures."""
    state: list[str | None] = Field(default=[])
    """Keys of the observation that make up the state, in order; null stands for one column of zeros."""
    instruction: str = "language_instruction"
    """Key of what the robot was told."""
    action: str = "action"
    """Key of the actions."""
    transforms: list[AnyTransform] = Field(default=[])
    """Applied to each trajectory, in order."""
    embodiment: AnyEmbodiment | None = None
    """The robot that was recorded."""
    generated: dict[str, Any] | None = None
    """The settings under which the set was made, where the toolkit made it."""


def find_card(folder: Path | RemotePath) -> DatasetCard | None:
    """Return the card beside the data, or None."""
    return load_card(folder / CARD) if (folder / CARD).is_file() else None


def load_card(path: Path | RemotePath) -> DatasetCard:
    """Read a card.

    Raises:
        RecipeError: it has a mistake; names file, line and key.
    """
    return _parse(path.read_bytes(), file=path)


def save_card(card: DatasetCard, path: Path) -> None:
    """Write a card so that ``load_card`` gives it back."""
    content = card.model_dump(mode="json", exclude_none=False)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def complete(
    given: dict[str, Any], folder: Path | RemotePath, *, dataset: str, features: FeaturesDict
) -> DatasetCard:
    """Return the card with what the recipe gives (not None) laid over the one that is found.

    Raises:
        RecipeError: nothing says what the cameras are, or which robot was recorded; lists the features
            and the lines to paste.
    """
    known = {key: value for key, value in given.items() if value is not None}
    if (found := find_card(folder)) is not None:
        known = dict(found) | known
    elif (entry := look_up(dataset)) is not None:
        known = entry.settings(dataset) | known
        if "embodiment" not in known:
            known["embodiment"] = entry.embodiment(features)
    for key in ("cameras", "embodiment"):
        if known.get(key) is None:
            raise RecipeError(_how_to_describe(folder, dataset=dataset, features=features), path=key)
    return DatasetCard(**known)


def addressed(
    error: RecipeError, card: DatasetCard, folder: Path | RemotePath, *, dataset: str
) -> RecipeError:
    """Return an error with the data set's name, and with file and line where the card beside it is wrong."""
    path = tuple(int(step) if step.isdigit() else step for step in (error.path or "").split("."))
    reason, file, key = f"data set '{dataset}': {error.reason}", folder / CARD, str(path[0])
    if file.is_file() and getattr(load_card(file), key, None) == getattr(card, key, None):
        data, lines = parse_file(file.read_bytes(), file=str(file))
        places = {place: Place(str(file), line) for place, line in lines.items()}
        return Layered(data, places).error(path, reason)
    return RecipeError(reason, path=error.path)


def _parse(text: bytes, *, file: Path | RemotePath) -> DatasetCard:
    data, lines = parse_file(text, file=str(file))
    try:
        return DatasetCard.model_validate(data)
    except ValidationError as error:
        places = {path: Place(str(file), line) for path, line in lines.items()}
        raise recipe_error(error, Layered(data, places), DatasetCard) from None


def _how_to_describe(folder: Path | RemotePath, *, dataset: str, features: FeaturesDict) -> str:
    """Explain what is missing, with a card to paste that holds all that the features tell."""
    found = dict(leaves(features.features.get("steps", features)))
    lines = [f"how to read '{dataset}' is not fully known from {folder / CARD} or the catalog."]
    lines += ["Features of a step:", *(f"  {key}: {_kind(feature)}" for key, feature in found.items())]
    lines += [f"Give what is missing to the data set in the recipe, or write it to {folder / CARD}."]
    lines += ["Known so far; correct the names, units and references, and which parts make up the state:"]
    text = yaml.safe_dump(_proposal(found), default_flow_style=None, sort_keys=False, width=100)
    return "\n".join(
        [*lines, text.replace("control_hz: null", "control_hz: null # actions per second").strip()]
    )


def _proposal(found: Mapping[str, Feature]) -> dict[str, Any]:
    """Return a card in plain data; what only a person can know is null, which a card is refused for."""
    seen = {key.removeprefix(_OBSERVATION): one for key, one in found.items() if key.startswith(_OBSERVATION)}
    pictures = {key: one for key, one in seen.items() if isinstance(one, Image)}
    cameras = {key.rpartition("/")[2] if number else "primary": key for number, key in enumerate(pictures)}
    state = {key: width for key, one in seen.items() if (width := _width(one))}
    actions = [key for key in found if "action" in key and _width(found[key])]
    action = "action" if "action" in actions else next(iter(actions), None)
    size = {name: pictures[key].shape for name, key in cameras.items()}
    return {
        "cameras": cameras or None,
        "state": list(state),
        "instruction": next((key for key, one in found.items() if isinstance(one, Text)), None),
        "action": action,
        "embodiment": {
            "name": "custom",
            "control_hz": None,
            "cameras": {name: {"height": shape[0], "width": shape[1]} for name, shape in size.items()},
            "state": [one for key, width in state.items() for one in _numbers(key, width)],
            "action": _numbers("action", 0 if action is None else _width(found[action])),
        },
    }


def _numbers(key: str, width: int) -> list[dict[str, str]]:
    names = [key] if width == 1 else [f"{key}_{number}" for number in range(width)]
    return [{"name": name, "unit": "1", "reference": "absolute"} for name in names]


def _width(feature: Feature) -> int:
    """Return how many numbers a feature is as a part of a vector; 0 where it is none."""
    if not isinstance(feature, (Scalar, Tensor)) or feature.dtype in ("string", "bool"):
        return 0
    if isinstance(feature, Scalar):
        return 1
    return (feature.shape[0] or 0) if len(feature.shape) == 1 else 0


def _kind(feature: object) -> str:
    if isinstance(feature, (Tensor, Image)):
        return f"{type(feature).__name__} {feature.dtype} {list(feature.shape)}"
    return f"Scalar {feature.dtype}" if isinstance(feature, Scalar) else type(feature).__name__
