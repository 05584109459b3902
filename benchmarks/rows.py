"""One row per claim: our figure, a peer's figure from the same run, their ratio and the target."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

__all__ = ["Row", "interleaved", "machine", "spread", "table", "write"]


def machine() -> str:
    """Describe the kind of machine: processor, cores this process may use, memory, system, Python."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    processor = model[1].strip() if model else platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim: a figure of ours, a peer's from the same run, and what it should be."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float = field(init=False)
    """``value`` over ``peer_value``, so that the printed figures agree with it."""
    target: str
    """As ``<= 150 ms`` or ``ratio >= 0.95``; empty for a figure that only informs."""
    met: bool | None = None
    """Whether the target is met; None without a target."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=lambda: date.today().isoformat())

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", self.value / self.peer_value)


def interleaved(
    calls: Mapping[str, Callable[[], float]], *, repeats: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Measure every call ``repeats`` times, in turns, so that a change of the machine's mood meets all alike.

    A call returns its own figure (seconds, or a rate). At least five repeats.
    """
    if repeats < 5:
        raise ValueError(f"a figure needs at least 5 repeats, not {repeats}.")
    figures: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            figure = call()
            if turn >= warmup:
                figures[name].append(figure)
    return figures


def spread(figures: Sequence[float]) -> str:
    """Return ``min..max`` of repeated figures, for a row's settings: how far its figure can be trusted."""
    return f"{min(figures):.4g}..{max(figures):.4g}"


def write(rows: Sequence[Row], *, group: str, folder: Path) -> None:
    """Write ``<group>.json`` and ``<group>.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{group}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    (folder / f"{group}.md").write_text(f"# {group}\n\n{table(rows)}")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, the machine below it."""
    lines = ["| what | value | peer | its value | ratio | target | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "no", None: ""}[row.met]
        cells = [row.name, f"{row.value:.4g} {row.unit}", row.peer, f"{row.peer_value:.4g} {row.unit}"]
        cells += [f"{row.ratio:.3g}", row.target, met]
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    places = dict.fromkeys(f"{row.machine}; {row.date}" for row in rows)
    return "\n".join([*lines, "", *places]) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
