"""Steps whose loss or gradient is not finite: left out, counted, and too many of them the end."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from openvla_toolkit.core.errors import NotFinite
from openvla_toolkit.core.processes import gathered
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import OnNonfinite

__all__ = ["Guard"]

_log = logging.getLogger(__name__)


class Guard:
    """Decides, on all ranks alike, what becomes of a step that an engine refused."""

    def __init__(self, section: OnNonfinite) -> None:
        self._section = section
        self._in_a_row = 0
        self.skipped = 0
        """Updates left out since the run began."""
        self.verdict: str | None = None
        """Why the run must stop, once it must."""

    def passed(self) -> None:
        """Note that a step was taken."""
        self._in_a_row = 0

    def refused(self, number: int, error: NotFinite, datasets: Iterable[str]) -> None:
        """Note that step ``number``, counted from 1, was not; ``datasets`` gave this rank its samples."""
        known = sorted(set().union(*gathered(set(datasets))))
        where = f"step {number}: {error.what} (samples of {', '.join(known)})"
        if self._section.action == "stop":
            self.verdict = (
                f"{where}; nothing was updated. Go on with --resume train.on_nonfinite.action=skip, or begin "
                "anew with a lower train.optimizer.lr, with train.clip_norm, or in fp32."
            )
            return
        self._in_a_row += 1
        if self._in_a_row > self._section.limit:
            self.verdict = (
                f"{where}, and so it was in the {self._section.limit} steps before "
                "(train.on_nonfinite.limit): look at the data, or begin anew with a lower train.optimizer.lr."
            )
            return
        self.skipped += 1
        if Ranks.here().is_first:
            _log.warning("%s; its update is left out, %d so far.", where, self.skipped)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must know: one that was stopped here has all its tries again."""
        return {"skipped": self.skipped, "in_a_row": 0 if self.verdict else self._in_a_row}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]
