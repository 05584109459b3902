"""Which data set lies in a folder, and the settings that stand beside it on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from openvla_toolkit.core.complaints import validated
from openvla_toolkit.core.errors import MissingFile, RecipeError, RecipeErrors, UserError
from openvla_toolkit.core.locations import RemotePath, as_location
from openvla_toolkit.core.registry import find, load
from openvla_toolkit.core.yaml_lines import parse_value
from openvla_toolkit.interfaces.dataset import DatasetConfig

__all__ = ["opened_settings", "place", "settings_of"]

SHOWN = 12
"""Data sets inside a folder that are named."""


def place(text: str) -> Path | RemotePath:
    """Return the folder of this machine, or the URL, that is written as the argument SRC."""
    found = as_location(text)
    return found if isinstance(found, (Path, RemotePath)) else Path(text)


def opened_settings(path: Path | RemotePath, words: Sequence[str]) -> DatasetConfig:
    """Return the settings that read the data set in a folder, with ``KEY=VALUE`` words laid over them.

    The kind is recognised by what lies there, unless ``name=KIND`` is among the words.

    Raises:
        MissingFile: the folder does not exist.
        UserError: no installed kind of data set reads it, or more than one does.
        RecipeError: a setting has a mistake.
    """
    if not path.exists():
        raise MissingFile(f"{path} does not exist.")
    given = settings_of(words)
    if "name" in given:
        return _checked(load("dataset", str(given["name"])), {"root": path} | given, path=path)
    found = _found(path)
    if not found:
        raise UserError(_not_recognised(path))
    if len(found) > 1:
        names = ", ".join(settings.name for settings in found)
        raise UserError(f"{path} can be read as {names}: choose one with --read name=...")
    set_already = {key: getattr(found[0], key) for key in found[0].model_fields_set}
    return _checked(type(found[0]), set_already | given, path=path)


def _found(path: Path | RemotePath) -> list[DatasetConfig]:
    """Return the settings of every installed kind that reads what lies there."""
    kinds = [load("dataset", kind) for kind in find("dataset")]
    offered = [kind.found_at(path) for kind in kinds if issubclass(kind, DatasetConfig)]
    return [settings for settings in offered if settings is not None]


def _not_recognised(path: Path | RemotePath) -> str:
    """Say what lies inside instead, where that is known at once: in a folder of this machine."""
    folders: list[Path] = []
    if isinstance(path, Path) and path.is_dir():
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
    if inside := [entry.name for entry in folders if _found(entry)]:
        more = f" and {len(inside) - SHOWN} more" if len(inside) > SHOWN else ""
        return (
            f"{path} is no data set; there are some inside: {', '.join(inside[:SHOWN])}{more}. "
            f"Give one of them: {path / inside[0]}."
        )
    return (
        f"{path} holds no data set that is recognised ({', '.join(find('dataset'))}); give its kind and "
        "settings with --read name=... --read KEY=VALUE."
    )


def _checked(kind: type[Any], settings: dict[str, Any], *, path: Path | RemotePath) -> DatasetConfig:
    """Return the settings of a data set; a mistake in them names where it lies."""
    try:
        chosen = validated(kind, settings)
    except RecipeError as error:
        several = error.errors if isinstance(error, RecipeErrors) else [error]
        named = [RecipeError(one.reason, file=str(path), path=one.path) for one in several]
        raise named[0] if len(named) == 1 else RecipeErrors(named) from None
    assert isinstance(chosen, DatasetConfig)
    return chosen


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` words as settings, values read as YAML; raises ``click.UsageError``."""
    settings = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise click.UsageError(f"'{word}' is not of the form KEY=VALUE.")
        settings[key] = parse_value(value)
    return settings
