"""``data.lock.json``: which data a run is trained on, so that it is resumed with no others.

The recipe names data sets; what lies under these names can change while a run is stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openvla_toolkit.core.errors import DataError, UserError
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.core.storage import atomic_write_text
from openvla_toolkit.stages.prepare import Prepared

__all__ = ["DATA_LOCK", "keep_record"]

DATA_LOCK = "data.lock.json"
FIGURES = ("episodes", "frames", "samples")

_log = logging.getLogger(__name__)


def keep_record(prepared: Sequence[Prepared], output: Path, *, resumed: bool) -> None:
    """Write down the data of a run that begins; of one that is resumed, compare with what was written.

    Raises:
        UserError: the run was trained on other data; names every data set that differs, and how.
        DataError: the record is damaged.
        StorageError: the record cannot be written.
    """
    if not prepared:
        return
    path = output / DATA_LOCK
    now = {item.name: _record(item) for item in prepared}
    if resumed and path.exists():
        _compare(_read(path), now, path)
        return
    if resumed:
        _log.warning("%s is missing: nothing tells whether the data are those of the run's start.", path)
    atomic_write_text(path, json.dumps(now, indent=1) + "\n")


def _record(item: Prepared) -> dict[str, Any]:
    """Return what another content, another choice of episodes or other statistics would change."""
    record: dict[str, Any] = {"fingerprint": item.dataset.describe().fingerprint}
    if item.index is None:
        return record | {"samples": len(item.dataset)}
    samples = item.index.frames if item.index.samples is None else len(item.index.samples)
    record |= {"episodes": item.index.episodes, "frames": item.index.frames, "samples": samples}
    if item.statistics is not None:
        record["statistics"] = _digest(item.statistics)
    return record


def _digest(statistics: Statistics) -> str:
    """Hash the figures in float32, in which samples are normalised; counts are recorded by themselves."""
    moments = [
        statistics.action.to_json(),
        {} if statistics.proprio is None else statistics.proprio.to_json(),
    ]
    digest = hashlib.sha256()
    for vector in moments:
        for name, values in vector.items():
            digest.update(name.encode() + np.asarray(values, dtype="<f4").tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        records = json.loads(path.read_text())
        if not isinstance(records, dict) or not all(isinstance(one, dict) for one in records.values()):
            raise ValueError("expected an entry per data set")
    except (OSError, ValueError) as error:
        raise DataError(
            f"the record of the run's data is damaged: {error}. Bring it back, or begin a new run with "
            "another output=FOLDER.",
            file=path,
        ) from error
    return records


def _compare(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    changes = list(_changes(before, now))
    if changes:
        raise UserError(
            "\n".join(
                [
                    f"the run in {path.parent} was trained on other data than there are now:",
                    *(f"  {change}" for change in changes),
                    "Bring back the data that it began with, or begin a new run with another output=FOLDER. "
                    f"If you know that nothing but the times of files has changed, delete {path}.",
                ]
            )
        )


def _changes(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"'{name}' is no longer there" for name in before if name not in now)
    yield from (f"'{name}' was not there" for name in now if name not in before)
    for name in now:
        if name not in before or before[name] == now[name]:
            continue
        old, new = before[name], now[name]
        figures = [f"{key} were {old.get(key)} and are {new.get(key)}" for key in FIGURES]
        changed = [said for key, said in zip(FIGURES, figures, strict=True) if old.get(key) != new.get(key)]
        if old.get("fingerprint") != new.get("fingerprint"):
            changed.append("its files have changed (content, size or time of change)")
        if old.get("statistics") != new.get("statistics"):
            changed.append("its statistics are others")
        yield f"'{name}': {', '.join(changed)}"
