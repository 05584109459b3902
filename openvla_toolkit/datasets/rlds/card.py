"""How to read a data set as robot episodes: which feature is which camera, which robot was recorded.

The answer comes from the recipe, else from ``openvla.yaml`` beside ``dataset_info.json``, else from the
catalog that ships with the toolkit; each answers only what those before it leave open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from openvla_toolkit.core.complaints import recipe_error
from openvla_toolkit.core.component import Section
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.layers import Layered, Place
from openvla_toolkit.core.yaml_lines import parse_file
from openvla_toolkit.datasets.rlds.catalog import look_up
from openvla_toolkit.datasets.rlds.features import FeaturesDict, Image, Scalar, Tensor, Text, leaves
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment
from openvla_toolkit.interfaces.transform import AnyTransform

__all__ = ["CARD", "DatasetCard", "complete", "find_card", "load_card", "save_card"]

CARD = "openvla.yaml"


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


def find_card(folder: Path) -> DatasetCard | None:
    """Return the card beside the data, or None."""
    return load_card(folder / CARD) if (folder / CARD).is_file() else None


def load_card(path: Path) -> DatasetCard:
    """Read a card.

    Raises:
        RecipeError: it has a mistake; names file, line and key.
    """
    return _parse(path.read_bytes(), file=path)


def save_card(card: DatasetCard, path: Path) -> None:
    """Write a card so that ``load_card`` gives it back."""
    content = card.model_dump(mode="json", exclude_none=False)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def complete(given: dict[str, Any], folder: Path, *, dataset: str, features: FeaturesDict) -> DatasetCard:
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


def _parse(text: bytes, *, file: str | Path) -> DatasetCard:
    data, lines = parse_file(text, file=file)
    try:
        return DatasetCard.model_validate(data)
    except ValidationError as error:
        places = {path: Place(str(file), line) for path, line in lines.items()}
        raise recipe_error(error, Layered(data, places), DatasetCard) from None


def _how_to_describe(folder: Path, *, dataset: str, features: FeaturesDict) -> str:
    """Explain what is missing, with a guess to paste: the first picture, text and action found."""
    found = dict(leaves(features.features.get("steps", features)))
    pictures = [key.removeprefix("observation/") for key, one in found.items() if isinstance(one, Image)]
    texts = [key for key, feature in found.items() if isinstance(feature, Text)]
    lines = [f"how to read '{dataset}' is not fully known from {folder / CARD} or the catalog."]
    lines += ["Features of a step:", *(f"  {key}: {_kind(feature)}" for key, feature in found.items())]
    lines += [f"Give what is missing to the data set in the recipe, or write it to {folder / CARD}:"]
    lines += [f"  cameras: {{primary: {pictures[0] if pictures else '...'}}}"]
    lines += [f"  instruction: {texts[0] if texts else '...'}"]
    lines += ["  action: action", "  state: [...]", "  embodiment: {name: custom, ...}"]
    return "\n".join(lines)


def _kind(feature: object) -> str:
    if isinstance(feature, (Tensor, Image)):
        return f"{type(feature).__name__} {feature.dtype} {list(feature.shape)}"
    return f"Scalar {feature.dtype}" if isinstance(feature, Scalar) else type(feature).__name__
