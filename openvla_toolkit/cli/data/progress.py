"""How far a part is, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from openvla_toolkit.core.hooks import Facts

__all__ = ["Progress"]


class Progress(Facts):
    """Prints one line per step of ten percent."""

    def __init__(self) -> None:
        self._told: tuple[str, int] = ("", -1)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` are done."""
        now = (what, 10 * done // max(total, 1))
        if now != self._told:
            self._told = now
            click.echo(f"{what} {done}/{total}", err=True)

    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Tell how far a stage is."""
        self(stage.removeprefix("prepare "), step, values["total"])
