"""Which data set lies in a folder, and the settings that stand beside it on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from openvla_toolkit.core.complaints import validated
from openvla_toolkit.core.errors import MissingFile, UserError
from openvla_toolkit.core.registry import find, load
from openvla_toolkit.core.yaml_lines import parse_value
from openvla_toolkit.interfaces.dataset import DatasetConfig

__all__ = ["opened_settings", "settings_of"]


def opened_settings(path: Path, words: Sequence[str]) -> DatasetConfig:
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
        chosen = validated(load("dataset", str(given["name"])), {"root": path} | given)
        assert isinstance(chosen, DatasetConfig)
        return chosen
    kinds = list(find("dataset"))
    found: list[DatasetConfig] = []
    for kind in kinds:
        config = load("dataset", kind)
        assert issubclass(config, DatasetConfig)
        settings = config.found_at(path)
        if settings is not None:
            found.append(settings)
    if len(found) != 1:
        names = ", ".join(settings.name for settings in found)
        raise UserError(
            f"{path} holds no data set that is recognised ({', '.join(kinds)}); give its kind and settings "
            "with --read name=... --read KEY=VALUE."
            if not found
            else f"{path} can be read as {names}: choose one with --read name=..."
        )
    set_already = {key: getattr(found[0], key) for key in found[0].model_fields_set}
    return validated(type(found[0]), set_already | given)


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` words as settings, values read as YAML; raises ``click.UsageError``."""
    settings = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise click.UsageError(f"'{word}' is not of the form KEY=VALUE.")
        settings[key] = parse_value(value)
    return settings
