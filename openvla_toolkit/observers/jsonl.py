"""``metrics.jsonl``: one line of JSON per fact that has numbers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvla_toolkit.core.hooks import observe
from openvla_toolkit.core.storage import storage_errors

__all__ = ["METRICS_FILE", "JSONLines"]

METRICS_FILE = "metrics.jsonl"


class JSONLines:
    """Appends, so that a resumed run goes on in the same file; every line is on disk before the next step.

    A line is ``{"time": seconds since 1970, "stage": ..., "step": ..., <values>}``; numbers that are not
    finite are null.
    """

    name = "jsonl"

    def __init__(self) -> None:
        self._path: Path | None = None

    @observe
    def run_started(self, output: Path) -> None:
        """Make the file ready; a line that a killed run left unfinished is ended."""
        self._path = output / METRICS_FILE
        with storage_errors(self._path):
            output.mkdir(parents=True, exist_ok=True)
            written = self._path.read_bytes() if self._path.exists() else b""
        if written and not written.endswith(b"\n"):
            self._append("\n")

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one line."""
        plain = {key: _plain(value) for key, value in values.items()}
        line = {"time": round(time.time(), 3), "stage": stage, "step": step, **plain}
        self._append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def _append(self, text: str) -> None:
        assert self._path is not None, "metrics were logged before the run started"
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(text)


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it; NumPy's and torch's numbers become Python's."""
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
