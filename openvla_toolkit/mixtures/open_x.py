"""Named mixtures, and the data sets on disk that they stand for."""

from __future__ import annotations

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

__all__ = ["Entry", "left_out", "members", "named_mixtures", "without_repeats"]


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
    found, missing = _tried(config)
    if not found:
        listed = "; ".join(f"{name} ({reason})" for name, reason in missing.items())
        raise RecipeError(
            f"none of the members of mixture '{config.mixture}' can be read from {config.root}: {listed}.",
            path="root",
        )
    return found


def left_out(config: OpenXConfig) -> dict[str, str]:
    """Return the members that cannot be read and need not be, each with the reason."""
    return _tried(config)[1] if config.on_error == "skip" else {}


def _tried(config: OpenXConfig) -> tuple[list[DatasetConfig], dict[str, str]]:
    """Return the members that can be read, and why others cannot."""
    known = named_mixtures()
    if config.mixture not in known:
        raise RecipeError(
            f"there is no mixture '{config.mixture}'.{did_you_mean(config.mixture, known)} "
            f"There are: {', '.join(known)}. Of your own data sets 'weighted' makes one.",
            path="mixture",
        )
    found: list[DatasetConfig] = []
    missing: dict[str, str] = {}
    for entry in without_repeats(known[config.mixture]):
        try:
            found.append(_member(config, entry))
        except (MissingFile, RecipeError) as error:
            if config.on_error == "raise":
                raised = MissingFile if isinstance(error, MissingFile) else RecipeError
                raise raised(
                    f"mixture '{config.mixture}', member '{entry.dataset}': {error} "
                    "With 'on_error: skip' the mixture does without it."
                ) from error
            missing[entry.dataset] = str(error).splitlines()[0].rstrip(".")
    return found, missing


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
    shared = {key: getattr(config, key) for key in ("filters", "goals", "on_error")}
    return cast("DatasetConfig", reader.model_copy(update={"cameras": chosen, **shared}))
