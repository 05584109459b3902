"""Writes the report when a run ends."""

from __future__ import annotations

from pathlib import Path

from openvla_toolkit.core.hooks import observe
from openvla_toolkit.observers.report.page import write_report

__all__ = ["Report"]


class Report:
    """Writes ``report.html``; a run that stopped early gets one about what it did."""

    name = "report"

    def __init__(self) -> None:
        self._output: Path | None = None

    @observe
    def run_started(self, output: Path) -> None:
        """Remember where the run writes."""
        self._output = output

    @observe
    def run_finished(self) -> None:
        """Write the page."""
        if self._output is not None:
            write_report(self._output)
