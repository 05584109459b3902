"""From a run folder to ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openvla_toolkit.core.pages.rendering import embedded, write_page
from openvla_toolkit.observers.report.contract_table import contract_rows
from openvla_toolkit.observers.report.curves import training_curves, training_seconds
from openvla_toolkit.observers.report.evaluations import measured
from openvla_toolkit.observers.report.last_values import last_values
from openvla_toolkit.observers.report.run_folder import Run, read_run

__all__ = ["REPORT_FILE", "write_report"]

REPORT_FILE = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` from the files of a run folder and return its path; doing it again is harmless.

    Raises:
        DataError: a file of the run is damaged.
        StorageError: the page cannot be written.
    """
    run = read_run(Path(folder))
    target = run.folder / REPORT_FILE
    write_page(target, package=__package__, template="report.html.jinja", content=_content(run))
    return target


def _content(run: Run) -> dict[str, Any]:
    return {
        "title": run.folder.resolve().name,
        "subtitle": _subtitle(run.lock, ranks=run.ranks),
        "unfinished": _unfinished(run),
        "error": run.error,
        "measured": measured(run.evaluations),
        "to_measure": bool(run.lock.get("evaluate", True)),
        "curves": training_curves(run.stages.get("train", ())),
        "held_out": training_curves(run.stages.get("validation", ())),
        "trained": bool(run.stages.get("train")),
        "last": last_values(run.stages),
        "self_check": run.self_check,
        "training_seconds": training_seconds(run.stages.get("train", ()), batch=_batch(run.lock)),
        "contract": None if run.contract is None else contract_rows(run.contract),
        "data": _data(run.statistics),
        "benchmark": _benchmark(run.benchmark),
        "checkpoint": run.checkpoint,
        "machine": _machine(run.lock.get("lock") or {}),
        "lock_text": run.lock_text,
        "picture": _picture,
    }


def _batch(lock: Mapping[str, Any]) -> int:
    return int(((lock.get("train") or {}).get("batch") or {}).get("total", 0))


def _subtitle(lock: Mapping[str, Any], *, ranks: int | None) -> str:
    """Say in one line what was run on what."""
    policy, train = lock.get("policy") or {}, lock.get("train") or {}
    parts = [f"policy {policy['name']}"] if "name" in policy else []
    if policy.get("weights"):
        parts[-1:] = [f"{parts[-1] if parts else 'policy'} from {policy['weights']}"]
    if train:
        parts.append(f"{train['steps']} steps of {train['batch']['total']} samples")
        parts += _machinery(train.get("engine") or {}, ranks)
    if lock.get("data"):
        parts.append("data " + ", ".join(name for item in lock["data"] for name in _data_sets(item)))
    if "seed" in lock:
        parts.append(f"seed {lock['seed']}")
    return " · ".join(parts)


def _machinery(engine: Mapping[str, Any], ranks: int | None) -> list[str]:
    """Say which engine trained, and on how many ranks."""
    if "name" not in engine:
        return []
    count = "" if ranks is None else f" on {ranks} rank{'s' * (ranks != 1)}"
    return [f"engine {engine['name']}{count}"]


def _data_sets(item: Mapping[str, Any]) -> list[str]:
    """Return the names that an entry of ``data`` gives its data sets; the component's where it gives none."""
    if members := item.get("data"):
        return [name for member in members for name in _data_sets(member)]
    return [str(item.get("dataset") or item.get("mixture") or item.get("name"))]


def _unfinished(run: Run) -> str | None:
    """Say how far a run came that stopped early."""
    rows, train = run.stages.get("train", ()), run.lock.get("train")
    if train and rows and rows[-1]["step"] < train["steps"]:
        return f"Training stopped at step {rows[-1]['step']} of {train['steps']}."
    if run.lock.get("evaluate") and not any(one.when != "before" for one in run.evaluations):
        return "The run ended before its evaluation was complete."
    return None


def _data(statistics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "episodes": entry.get("num_trajectories", 0),
            "frames": entry.get("num_transitions", 0),
            "action": entry.get("action", {}),
        }
        for name, entry in statistics.items()
    ]


def _benchmark(figures: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Bring rows to one set of columns."""
    if figures is None:
        return None
    rows: Sequence[Mapping[str, Any]] = figures.get("rows", [])
    settings = figures.get("settings", {})
    return {
        "columns": list(dict.fromkeys(key for row in rows for key in row)),
        "rows": rows,
        "notes": [f"{key} {value}" for key, value in settings.items()]
        + [str(figures[key]) for key in ("machine", "date") if key in figures],
    }


def _machine(lock: Mapping[str, Any]) -> str:
    cpu = lock.get("cpu") or {}
    parts = [f"{cpu.get('count')} \u00d7 {cpu.get('model')}"] if cpu.get("model") else []
    parts += [str(gpu) for gpu in lock.get("gpus") or ()]
    parts += [f"Python {lock['python']}"] if "python" in lock else []
    parts += [str(lock["date"])] if "date" in lock else []
    return " · ".join(parts)


def _picture(path: Path) -> str:
    return embedded(path.read_bytes())
