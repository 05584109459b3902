"""Progress for people, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from openvla_toolkit.core.hooks import observe

if TYPE_CHECKING:
    from openvla_toolkit.observers import ConsoleConfig

__all__ = ["Console"]

SHOWN = {
    "loss": "loss {:.3f}",
    "token_accuracy": "tokens {:.1%}",
    "success": "success {:.1%}",
    "samples_per_second": "{:.0f} samples/s",
}
"""The figures worth a place on one line, in this order; the files have all of them."""

PAUSE = 10.0
"""Seconds after which a slow stage is heard of again."""
SHARE = 0.05
"""Part of a stage after which a quick one is, but never sooner than after ``BREATH`` seconds."""
BREATH = 1.0


class _Display(Protocol):
    def update(self, stage: str, step: int, values: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class Console:
    """Tells how far a run is: rate, time left, loss, token accuracy, success rate."""

    name = "console"

    def __init__(self, config: ConsoleConfig) -> None:
        quiet = config.quiet or os.environ.get("OPENVLA_QUIET", "") not in ("", "0")
        terminal = Terminal(stderr=True)
        self._display: _Display = (
            _Silence() if quiet else _Bars(terminal) if terminal.is_terminal else _Lines()
        )
        self._started = time.monotonic()
        self._output = Path()

    @observe
    def run_started(self, output: Path) -> None:
        """Start the clock."""
        self._started, self._output = time.monotonic(), output

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Move the stage's bar."""
        self._display.update(stage, step, values)

    @observe
    def checkpoint_saved(self, path: Path) -> None:
        """Name the checkpoint."""
        self._display.note(f"saved {path}")

    @observe
    def artifact_exported(self, exporter: str, path: Path, difference: float) -> None:
        """Name the artifact and how near it is to the policy."""
        self._display.note(f"{exporter}: {path} (largest difference {difference:.2g})")

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        """Take the bars down and say how long it took; what went wrong is told by whoever catches it."""
        if error is None:
            self._display.note(
                f"{self._output} is complete after {_duration(time.monotonic() - self._started)}"
            )
        self._display.close()


class _Silence:
    def update(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Bars:
    """One bar per stage, the present one moving."""

    def __init__(self, terminal: Terminal) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}", style="cyan"),
            console=terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._origin: dict[str, tuple[float, int]] = {}

    def update(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        if "total" not in values:
            self.note("  ".join(_line_parts(stage, step, values, rate=None)))
            return
        if stage not in self._tasks:
            # A resumed stage begins where it left off: only what is done from now on counts for the rate.
            self._tasks[stage] = self._progress.add_task(
                stage, total=values["total"], completed=step, rate="", figures=""
            )
            self._origin[stage] = (time.monotonic(), step)
            self._progress.start()
        since, first = self._origin[stage]
        seconds = time.monotonic() - since
        rate = f"{(step - first) / seconds:.1f}/s" if step > first and seconds else ""
        self._progress.update(
            self._tasks[stage], completed=step, total=values["total"], rate=rate, figures=_figures(values)
        )

    def note(self, text: str) -> None:
        self._progress.console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """A line at the start and the end of a stage, and between them after 5 % or 10 s."""

    def __init__(self) -> None:
        self._origin: dict[str, tuple[float, int]] = {}
        self._last: dict[str, tuple[float, int]] = {}

    def update(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        now, total = time.monotonic(), values.get("total")
        self._origin.setdefault(stage, (now, step))
        if stage in self._last and not self._is_due(stage, step, total, now=now):
            return
        self._last[stage] = (now, step)
        since, first = self._origin[stage]
        rate = (step - first) / (now - since) if total and step > first and now > since else None
        self.note("  ".join(_line_parts(stage, step, values, rate=rate)))

    def note(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        pass

    def _is_due(self, stage: str, step: int, total: int | None, *, now: float) -> bool:
        before, last = self._last[stage]
        if total is None or now - before >= PAUSE:
            return True
        return step != last and (step >= total or (now - before >= BREATH and step - last >= SHARE * total))


def _line_parts(stage: str, step: int, values: Mapping[str, Any], *, rate: float | None) -> list[str]:
    total = values.get("total")
    parts = [stage, f"{step}/{total}" if total else str(step)]
    if rate:
        parts.append(f"{rate:.1f}/s")
    if rate and total and step < total:
        parts.append(f"{_duration((total - step) / rate)} left")
    shown = _figures(values)
    return [*parts, shown] if shown else parts


def _figures(values: Mapping[str, Any]) -> str:
    """Return the figures worth showing; where none is known, all of them."""
    known = [text.format(values[name]) for name, text in SHOWN.items() if name in values]
    if known:
        skipped = {name: value for name, value in values.items() if name.startswith("skipped/")}
        known += [f"{count:.0f} skipped of {name.partition('/')[2]}" for name, count in skipped.items()]
        return "  ".join(known)
    others = {name: value for name, value in values.items() if name != "total"}
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in others.items()
    )


def _duration(seconds: float) -> str:
    """Return ``42 s``, ``3 min 5 s`` or ``2 h 14 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
