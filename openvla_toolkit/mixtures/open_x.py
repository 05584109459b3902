"""Named mixtures, and the data sets on disk that they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from openvla_toolkit.core.errors import MissingFile, RecipeError, did_you_mean
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.yaml_lines import parse_file
from openvla_toolkit.interfaces.dataset import DatasetConfig

if TYPE_CHECKING:
    from openvla_toolkit.mixtures import OpenXConfig

__all__ = ["Entry", "members", "named_mixtures", "without_repeats"]


class Entry(NamedTuple):
    """One line of a mixture."""

    dataset: str
    weight: float


def members(config: OpenXConfig) -> list[DatasetConfig]:
    """Return the members of a mixture as data sets that can be read.

    Raises:
        RecipeError: there is no such mixture, none of its members can be read, or a member lacks a camera.
        MissingFile: a member does not exist.
    """
    known = named_mixtures()
    if config.mixture not in known:
        raise RecipeError(
            f"there is no mixture '{config.mixture}'.{did_you_mean(config.mixture, known)} "
            f"There are: {', '.join(known)}. Of your own data sets 'weighted' makes one.",
            path="mixture",
        )
    found: list[DatasetConfig] = []
    left_out: dict[str, str] = {}
    for entry in without_repeats(known[config.mixture]):
        try:
            found.append(_member(config, entry))
        except (MissingFile, RecipeError) as error:
            if config.on_error == "stop":
                raised = MissingFile if isinstance(error, MissingFile) else RecipeError
                raise raised(
                    f"mixture '{config.mixture}', member '{entry.dataset}': {error} "
                    "With 'on_error: skip' the mixture does without it."
                ) from error
            left_out[entry.dataset] = str(error)
    if not found:
        raise RecipeError(
            f"none of the members of mixture '{config.mixture}' can be read from {config.root}: "
            f"{_listed(left_out)}.",
            path="root",
        )
    if left_out:
        warnings.warn(
            f"mixture '{config.mixture}' does without {len(left_out)} of "
            f"{len(left_out) + len(found)} members: {_listed(left_out)}.",
            stacklevel=2,
        )
    return found


def without_repeats(entries: list[Entry]) -> list[Entry]:
    """Return the entries whose name comes for the first time."""
    first = {entry.dataset: entry for entry in reversed(entries)}
    return [entry for entry in entries if first[entry.dataset] is entry]


@lru_cache(maxsize=1)
def named_mixtures() -> Mapping[str, list[Entry]]:
    """Return mixture -> entries, as the original lists them."""
    table = files("openvla_toolkit") / "catalog" / "mixtures.yaml"
    data, _ = parse_file(table.read_bytes(), file="mixtures.yaml of the catalog")
    return {name: [Entry(**row) for row in rows] for name, rows in data.items()}


def _member(config: OpenXConfig, entry: Entry) -> DatasetConfig:
    settings = {
        "name": "rlds",
        "root": config.root,
        "dataset": entry.dataset,
        "split": config.split,
        "weight": entry.weight,
    }
    # The reader of RLDS knows what the catalog and the card beside the data say; it is reached by name.
    reader: Any = by_name("dataset")(settings)
    cameras = reader.card().cameras
    missing = [camera for camera in config.cameras if camera not in cameras]
    if missing:
        raise RecipeError(f"it has no camera '{missing[0]}', only {', '.join(cameras)}.")
    chosen = {camera: cameras[camera] for camera in config.cameras}
    return cast("DatasetConfig", reader.model_copy(update={"cameras": chosen}))


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({reason.splitlines()[0].rstrip('.')})" for name, reason in reasons.items())
