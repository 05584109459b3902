"""Under which id a tracker knows a run: kept in the run folder, so that a resumed run goes on in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.storage import atomic_write_text

__all__ = ["TRACKERS_FILE", "run_id"]

TRACKERS_FILE = "trackers.json"
"""In the run folder: tracker -> id of the run."""


def run_id(output: Path, tracker: str, new: Callable[[], str]) -> str:
    """Return the run's id in a tracker; the first time, make it by ``new`` and keep it.

    Raises:
        DataError: what was kept is damaged.
        StorageError: it cannot be kept.
    """
    path = output / TRACKERS_FILE
    try:
        known: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise DataError(
            f"is not JSON ({error}): remove it, and trackers begin a new run.", file=path
        ) from error
    if tracker not in known:
        known[tracker] = new()
        atomic_write_text(path, json.dumps(known, indent=1))
    return known[tracker]
