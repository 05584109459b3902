"""Where a data set lies and what its ``dataset_info.json`` says: splits, shards, episodes per shard."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import DataError, MissingFile, did_you_mean
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.datasets.rlds.catalog import look_up

__all__ = ["INFO", "DatasetInfo", "locate", "shard_name"]

INFO = "dataset_info.json"
VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The part of ``dataset_info.json`` that reading needs."""

    folder: Path | RemotePath
    name: str
    """The name that the shards carry; a folder may have been renamed since."""
    version: str
    shards: Mapping[str, Mapping[str, int]]
    """Split -> file name -> episodes in it, in order."""

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> number of episodes."""
        return {split: sum(shards.values()) for split, shards in self.shards.items()}

    @classmethod
    def load(cls, folder: Path | RemotePath) -> DatasetInfo:
        """Read ``dataset_info.json`` of a version folder.

        Raises:
            DataError: it is not JSON or lacks what reading needs.
        """
        path = folder / INFO
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            name = str(content["name"])
            return cls(
                folder=folder,
                name=name,
                version=str(content.get("version", folder.name)),
                shards={str(split["name"]): _shards(name, split) for split in content.get("splits", [])},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"there is no key {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"it is not as TFDS writes it: {reason}.", file=path) from None


def locate(root: Path | RemotePath, *, dataset: str, version: str | None = None) -> Path | RemotePath:
    """Return the version folder of a data set: the one asked for, or the newest.

    ``root`` may be the folder that holds data sets, the data set's own folder, or the version folder itself.
    A server that lists no folders (plain HTTP) is asked for the version's folder alone: give ``version``.

    Raises:
        MissingFile: names what is there instead.
    """
    if version is not None:
        for place in (root / dataset / version, root / version):
            if (place / INFO).is_file():
                return place
    found: dict[str, Path | RemotePath]
    if (root / INFO).is_file():
        found = {root.name: root}
    elif not root.is_dir():
        raise MissingFile(_no_root(root, dataset))
    else:
        folder = root / dataset if (root / dataset).is_dir() else root
        found = {entry.name: entry for entry in folder.iterdir() if VERSION.fullmatch(entry.name)}
        if not found and folder != root:
            raise MissingFile(
                f"{folder} holds no version of the data set (a folder like 1.0.0): it is incomplete; "
                "copy, download or generate it again."
            )
        if not found:
            names = sorted(
                entry.name for entry in root.iterdir() if entry.is_dir() and not _hidden(entry.name)
            )
            raise MissingFile(
                f"{root} holds no data set '{dataset}'.{did_you_mean(dataset, names)} "
                f"Folders there: {', '.join(names) or 'none'}.{_offer(root, dataset)}"
            )
    newest = max(
        found, key=lambda name: [int(part) for part in name.split(".")] if VERSION.fullmatch(name) else []
    )
    chosen = found.get(version or newest)
    if chosen is None:
        raise MissingFile(f"{dataset} has no version {version}. There are: {', '.join(sorted(found))}.")
    if not (chosen / INFO).is_file():
        raise MissingFile(f"{chosen} holds no {INFO}: the data set is incomplete; copy or download it again.")
    return chosen


def shard_name(name: str, split: str, number: int, count: int) -> str:
    """Return the file name that TFDS gives a shard."""
    return f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def _shards(name: str, split: Mapping[str, Any]) -> dict[str, int]:
    lengths = [int(length) for length in split["shardLengths"]]
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    values = {"DATASET": name, "SPLIT": split["name"], "FILEFORMAT": "tfrecord"}
    names = {}
    for number, length in enumerate(lengths):
        place = {"SHARD_INDEX": f"{number:05d}", "NUM_SHARDS": f"{len(lengths):05d}"}
        place["SHARD_X_OF_Y"] = f"{place['SHARD_INDEX']}-of-{place['NUM_SHARDS']}"
        names[template.format(**values, **place)] = length
    return names


def _no_root(root: Path | RemotePath, dataset: str) -> str:
    what = f"the folder {root} does not exist"
    if isinstance(root, RemotePath):
        what += ", may not be listed, or its server lists no folders (then give 'version' as well)"
    return f"{what}. Set root to the folder that holds {dataset}/<version>."


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _offer(root: Path | RemotePath, dataset: str) -> str:
    """Return how a data set of Open X-Embodiment is had."""
    if look_up(dataset) is None or not isinstance(root, Path):
        return ""
    return f" 'openvla data download {dataset} --to {root}' fetches it."
