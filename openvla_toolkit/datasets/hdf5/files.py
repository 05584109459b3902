"""Open HDF5 files and what is in them: the one place that knows h5py."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile, did_you_mean

try:
    import h5py
except ModuleNotFoundError as error:
    raise MissingDependency("dataset 'hdf5'", "h5py", install="openvla-toolkit[hdf5]") from error

__all__ = ["Demonstration", "demonstrations", "files_below", "member", "opened", "told"]

OPEN_FILES = 16
"""Per process."""
SUFFIXES = (".hdf5", ".h5")
INSTRUCTION_KEYS = ("language_instruction", "language_raw", "instruction", "task")
"""Attributes or texts under which files say what the robot was told."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One episode: a group of a file."""

    file: int
    group: str


_open_files: OrderedDict[Path, Any] = OrderedDict()
_owner = os.getpid()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give an open file; the most recently used ones stay open.

    Raises:
        MissingFile: it does not exist.
        DataError: it is damaged.
    """
    global _owner
    if _owner != os.getpid():
        # HDF5 keeps state of its own per process: a forked child opens its files anew.
        _open_files.clear()
        _owner = os.getpid()
    try:
        file = _open_files.pop(path, None) or h5py.File(path, "r")
        _open_files[path] = file
        while len(_open_files) > OPEN_FILES:
            _open_files.popitem(last=False)[1].close()
        yield file
    except FileNotFoundError:
        raise MissingFile(
            f"{path} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    except (OSError, RuntimeError) as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"it is not a whole HDF5 file: {what}; copy or download it again.", file=path
        ) from error


def files_below(root: Path) -> list[Path]:
    """Return the file, or the files of a folder and its subfolders by name.

    Raises:
        MissingFile: there is none.
    """
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise MissingFile(f"{root} does not exist. Set root to an HDF5 file or a folder of them.")
    found = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)
    if not found:
        raise MissingFile(f"{root} holds no {' or '.join(SUFFIXES)} file.")
    return found


def demonstrations(path: Path, *, file: int) -> list[Demonstration]:
    """Return the episodes of a file: ``data/demo_0``, ``data/demo_1``, ... by number, or the file itself."""
    with opened(path) as content:
        groups = content.get("data")
        if not isinstance(groups, h5py.Group):
            return [Demonstration(file, "/")]
        names = sorted((name for name in groups if isinstance(groups[name], h5py.Group)), key=_by_number)
        if not names:
            raise DataError("the group holds no demonstrations.", file=path, key="data")
        return [Demonstration(file, f"data/{name}") for name in names]


def member(group: Any, key: str, *, path: Path) -> Any:
    """Return a data set of an episode.

    Raises:
        DataError: there is none; names those that exist.
    """
    found = group.get(key)
    if isinstance(found, h5py.Dataset):
        return found
    known: list[str] = []
    group.visititems(lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None)
    raise DataError(
        f"there is no such data set.{did_you_mean(key, known)} "
        f"There are: {', '.join(sorted(known)) or 'none'}.",
        file=path,
        episode=group.name,
        key=key,
    )


def told(file: Any, group: Any) -> str | None:
    """Return what the file says the robot was told, or None: LIBERO's problem, an attribute, or a text."""
    data = file.get("data", file)
    for place in (group, data):
        for key in INSTRUCTION_KEYS:
            for value in (place.attrs.get(key), place.get(key)):
                text = _text(value)
                if text:
                    return text
    problem = _text(data.attrs.get("problem_info"))
    if problem:
        content = json.loads(problem)
        told = content.get("language_instruction") if isinstance(content, dict) else None
        text = "".join(told) if isinstance(told, list) else told
        return str(text) if text else None
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, h5py.Dataset):
        value = value[()] if value.shape == () else (value[0] if len(value) else None)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value if isinstance(value, str) else None


def _by_number(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2])) if match else (name, -1)
