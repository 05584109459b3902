"""Writes the report when a run ends."""

from __future__ import annotations

import json
from pathlib import Path

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.storage import atomic_write_text
from openvla_toolkit.observers.report.page import write_report
from openvla_toolkit.observers.report.run_folder import RECORD_FILE

__all__ = ["Report"]


class Report:
    """Writes ``report.html``; a run that stopped early gets one about what it did."""

    name = "report"

    def __init__(self) -> None:
        self._output: Path | None = None

    @observe
    def run_started(self, output: Path) -> None:
        """Remember where the run writes, and forget how it ended before."""
        self._output = output
        _record(output, error=None)

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        """Write the page."""
        if self._output is not None:
            _record(self._output, error=error)
            write_report(self._output)


def _record(output: Path, *, error: BaseException | None) -> None:
    """Keep what the other files of a run do not tell."""
    text = None if error is None else str(error)
    if error is not None and not isinstance(error, OpenVLAError):  # a fault: its text alone says little
        text = f"{type(error).__name__}: {error}"
    record = {"ranks": Ranks.here().world_size, "error": text}
    atomic_write_text(output / RECORD_FILE, json.dumps(record, indent=1))
