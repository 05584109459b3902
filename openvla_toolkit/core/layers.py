"""A recipe as layers: extended file, file, command line; each value remembers its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from openvla_toolkit.core.errors import MissingFile, RecipeError
from openvla_toolkit.core.yaml_lines import KeyPath, parse_file, parse_value

__all__ = ["COMMAND_LINE", "Layered", "Place", "copied", "overridden", "read_layers"]

COMMAND_LINE = "command line"
"""The place of a value that was given as ``key.path=value``."""

_PACKAGED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):([^\\/].*)")
_APPENDABLE = (dict, str)


class Place(NamedTuple):
    """Where a value stands."""

    file: str | None
    line: int | None


class Layered(NamedTuple):
    """Plain data and the place of every path in it."""

    data: dict[str, Any]
    places: dict[KeyPath, Place]

    def place(self, path: KeyPath) -> Place:
        """Return the place of a path, or of the nearest one above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(None, None))

    def error(self, path: KeyPath, reason: str) -> RecipeError:
        """Make the error about the value at ``path``."""
        place = self.place(path)
        return RecipeError(reason, file=place.file, line=place.line, path=".".join(map(str, path)) or None)


def read_layers(source: str | Path) -> Layered:
    """Read a recipe and the one it extends (``PACKAGE:recipes/x.yaml`` reads a file inside a package)."""
    recipe = _read(source)
    if "extends" not in recipe.data:
        return recipe
    target = recipe.data.pop("extends")
    if not isinstance(target, str):
        raise recipe.error(("extends",), f"expected the name of a recipe file, not {target!r}.")
    try:
        base = _read(target if _PACKAGED.fullmatch(target) else Path(source).parent / target)
    except MissingFile as error:
        raise recipe.error(("extends",), str(error)) from error
    if "extends" in base.data:
        raise base.error(
            ("extends",), f"{source} extends this recipe, so it may not extend another: one level only."
        )
    base.data.pop("lock", None)
    return _merged(base, recipe)


def overridden(recipe: Layered, overrides: Sequence[str]) -> Layered:
    """Apply ``key.path=value`` texts (``--`` in front is allowed); values are YAML, positions numbers."""
    for override in overrides:
        address, equals, text = override.removeprefix("--").partition("=")
        if not equals or not all(address.split(".")):
            raise RecipeError(f"'{override}' is not of the form key.path=value.", file=COMMAND_LINE)
        try:
            value = parse_value(text)
        except RecipeError as error:
            raise RecipeError(error.reason, file=COMMAND_LINE, path=address) from error
        _Override(recipe, address.split("."), value).apply()
    return recipe


def _read(source: str | Path) -> Layered:
    file, text = _bytes_of(source)
    data, lines = parse_file(text, file=file)
    return Layered(data, {path: Place(str(file), line) for path, line in lines.items()})


def _bytes_of(source: str | Path) -> tuple[str | Path, bytes]:
    packaged = _PACKAGED.fullmatch(str(source))
    if packaged and not Path(source).exists():
        return source, _packaged_bytes(packaged[1], packaged[2])
    path = Path(source)
    if path.is_dir():
        raise MissingFile(f"{path} is a folder; a recipe is a YAML file.{_nearest(path / 'recipe.yaml')}")
    try:
        return path, path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"there is no recipe {path}.{_nearest(path)}") from error
    except OSError as error:
        raise MissingFile(f"the recipe {path} cannot be read: {error.strerror}.") from error


def _packaged_bytes(package: str, name: str) -> bytes:
    try:
        return (files(package) / name).read_bytes()
    except ModuleNotFoundError as error:
        raise MissingFile(
            f"there is no package {package} to read {name} from; is its plugin installed?"
        ) from error
    except OSError as error:
        raise MissingFile(f"the package {package} holds no recipe {name}.") from error


def _nearest(path: Path) -> str:
    """Suggest the recipe nearby whose name is most like the one that is missing."""
    folders = (path.parent, path.parent / "recipes", Path("recipes"))
    nearby = {str(file): None for folder in folders for file in sorted(folder.glob("*.y*ml"))}
    by_stem = {Path(file).stem: file for file in reversed(nearby)}
    near = difflib.get_close_matches(path.stem, by_stem, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{by_stem[near[0]]}'?"
    return f" There is: {', '.join(list(nearby)[:5])}." if nearby else ""


def _merged(base: Layered, top: Layered) -> Layered:
    """Merge mappings key by key; everything else in ``top`` replaces what ``base`` has."""
    places = dict(base.places)
    data = _merge(base.data, top.data, (), places)
    return Layered(data, places | top.places)


def _merge(
    base: dict[str, Any], top: dict[str, Any], path: KeyPath, places: dict[KeyPath, Place]
) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        below = (*path, key)
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = _merge(old, value, below, places)
        else:
            _forget(places, below)
            result[key] = value
    return result


def _forget(places: dict[KeyPath, Place], path: KeyPath) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


class _Override:
    """Sets one value, making the mappings on the way to it."""

    def __init__(self, recipe: Layered, keys: Sequence[str], value: Any) -> None:
        self._recipe, self._keys, self._value = recipe, keys, value

    def apply(self) -> None:
        here: Any = self._recipe.data
        path: KeyPath = ()
        for key, following in zip(self._keys, [*self._keys[1:], None], strict=True):
            step = self._step(here, key, path)
            path = (*path, step)
            if following is None:
                self._set(here, step, path)
            else:
                here = self._descend(here, step, path, following)

    def _step(self, here: Any, key: str, path: KeyPath) -> str | int:
        if isinstance(here, dict):
            return key
        if not key.isdecimal():
            raise self._error(path, f"this is a list, so a number is expected, not '{key}'.")
        if int(key) > len(here):
            raise self._error((*path, int(key)), f"there is no item {key}; the list has {len(here)}.")
        return int(key)

    def _descend(self, here: Any, step: str | int, path: KeyPath, following: str) -> Any:
        if isinstance(here, list) and step == len(here):
            raise self._error(
                path, f"there is no item {step}; to append one, give it whole: {self._append_form(path)}."
            )
        value = here[int(step)] if isinstance(here, list) else here.get(step)
        if isinstance(value, str):
            value = {"name": value}
        elif value is None:
            value = [] if following == "0" else {}
        elif not isinstance(value, dict | list):
            raise self._error(path, f"this is {value!r}, which has no '{following}' in it.")
        here[step] = value
        self._recipe.places.setdefault(path, Place(COMMAND_LINE, None))
        return value

    def _set(self, here: Any, step: str | int, path: KeyPath) -> None:
        if isinstance(here, list) and step == len(here):
            if not isinstance(self._value, _APPENDABLE):
                raise self._error(
                    path, f"what is appended must be a name or a mapping: {self._append_form(path)}."
                )
            here.append(None)
        here[step] = self._value
        _forget(self._recipe.places, path)
        self._recipe.places[path] = Place(COMMAND_LINE, None)

    def _append_form(self, path: KeyPath) -> str:
        return f"'{'.'.join(map(str, path))}={{name: ..., ...}}'"

    def _error(self, path: KeyPath, reason: str) -> RecipeError:
        return RecipeError(reason, file=COMMAND_LINE, path=".".join(map(str, path)) or None)


def copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the mappings and lists of a Python user's recipe; what stands in them is left as it is."""
    return {str(key): _copied(value) for key, value in data.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return copied(value)
    return [_copied(item) for item in value] if isinstance(value, list) else value
