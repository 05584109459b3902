"""Statistics that are given as a file instead of measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile
from openvla_toolkit.core.statistics import Statistics

__all__ = ["given_statistics"]


def given_statistics(path: Path, *, dataset: str, robot: Interface) -> Statistics:
    """Read the figures to use for a data set: the entry of its name, or the only one there is.

    Where the file has no mask, as the original's cache of a data set has none, grippers are masked.

    Raises:
        MissingFile: there is no such file.
        DataError: it is damaged, or no statistics; names the key.
        ContractMismatch: no entry can be told to be meant, or it is of another number of dimensions.
    """
    entry, name = _entry(path, dataset)
    found = Statistics.from_json(entry, place=f"{path}: {name}")
    for what, moments, numbers in (
        ("action", found.action, robot.action),
        ("state", found.proprio, robot.state),
    ):
        if moments is not None and numbers and len(moments.mean) != len(numbers):
            raise ContractMismatch(
                f"{path}: the statistics '{name}' are of {len(moments.mean)} numbers of the {what}; "
                f"'{dataset}' has {len(numbers)}."
            )
    if "mask" in entry["action"]:
        return found
    mask = np.array([dimension.gripper is None for dimension in robot.action])
    return replace(found, action=replace(found.action, mask=mask))


def _entry(path: Path, dataset: str) -> tuple[Mapping[str, Any], str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(
            f"there are no statistics at {path}. 'openvla data stats' writes them; a checkpoint has them as "
            "dataset_statistics.json."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as statistics: {error}.", file=path) from error
    if not isinstance(data, Mapping) or not data:
        raise DataError("statistics of at least one data set are expected.", file=path)
    if "action" in data:
        return data, dataset
    if dataset in data:
        return data[dataset], dataset
    if len(data) > 1:
        raise ContractMismatch(
            f"{path} has no statistics of '{dataset}', but of {', '.join(sorted(data))}: write the one that "
            "is meant to a file of its own."
        )
    return next(iter(data.values())), next(iter(data))
