"""A run folder, read back: whatever of it is there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.storage import is_partial

__all__ = ["RECORD_FILE", "Evaluation", "Run", "read_run"]

RECORD_FILE = "report.json"
"""What no other file of a run tells: the number of its ranks, and the error that it ended with."""

_LABEL = re.compile(r"(?P<when>[a-z]+)-(?P<position>\d+)-(?P<evaluator>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One folder of ``evaluation/``."""

    when: str
    """``before`` or ``after`` training, or ``evaluate`` where nothing was trained."""
    position: int
    evaluator: str
    folder: Path
    figures: Mapping[str, Any]
    episodes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run has left."""

    folder: Path
    lock: Mapping[str, Any]
    lock_text: str
    stages: Mapping[str, Sequence[Mapping[str, Any]]]
    """Stage -> its metrics, by ascending step."""
    evaluations: Sequence[Evaluation]
    checkpoint: str | None
    contract: Mapping[str, Any] | None
    statistics: Mapping[str, Any]
    benchmark: Mapping[str, Any] | None
    self_check: Sequence[Mapping[str, Any]]
    """Figures of each checkpoint that was looked at."""
    ranks: int | None
    """None where it is not known."""
    error: str | None
    """What the run ended with; None for a run that is complete or was killed."""


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        DataError: a file is damaged; names it.
    """
    checkpoint = _last_checkpoint(folder)
    lock_text = _text(folder / "recipe.lock.yaml")
    record = _json(folder / RECORD_FILE) or {}
    evaluations = [_evaluation(path.parent) for path in sorted(folder.glob("evaluation/*/result.json"))]
    return Run(
        folder=folder,
        lock=_lock(lock_text, file=folder / "recipe.lock.yaml"),
        lock_text=lock_text,
        stages=_stages(folder / "metrics.jsonl"),
        evaluations=sorted(
            (found for found in evaluations if found is not None), key=lambda one: (one.position, one.when)
        ),
        checkpoint=None if checkpoint is None else checkpoint.name,
        contract=None if checkpoint is None else _json(checkpoint / "contract.json"),
        statistics=(None if checkpoint is None else _json(checkpoint / "dataset_statistics.json")) or {},
        benchmark=_json(folder / "benchmark.json"),
        self_check=(_json(folder / "self_check.json") or {}).get("checkpoints", []),
        ranks=record.get("ranks"),
        error=record.get("error"),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _json(path: Path) -> Mapping[str, Any] | None:
    """Read a file of one JSON object; None where there is no such file."""
    if not path.exists():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"is not JSON ({error}).", file=path) from error
    return content


def _lock(text: str, *, file: Path) -> Mapping[str, Any]:
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise DataError(f"is not YAML ({error}).", file=file) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object per line; the last line may be cut off, by a run that was killed."""
    lines = _text(path).splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                entries.append(json.loads(line))
        except ValueError as error:
            cut_off = number == len(lines) or not line.endswith("}")
            if not cut_off:
                raise DataError(f"line {number} is not JSON ({error}).", file=path) from error
    return entries


def _stages(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Group the metrics by stage; where a resumed run took steps again, its own numbers count."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for entry in _lines(path):
        rows = stages.setdefault(entry["stage"], [])
        while rows and rows[-1]["step"] >= entry["step"]:
            rows.pop()
        rows.append(entry)
    return stages


def _last_checkpoint(folder: Path) -> Path | None:
    found = [path for path in folder.glob("checkpoints/step-*") if not is_partial(path)]
    return max(found, key=lambda path: path.name, default=None)


def _evaluation(folder: Path) -> Evaluation | None:
    """Read one evaluation; a folder whose name is not of the toolkit's making is not one."""
    label = _LABEL.fullmatch(folder.name)
    if label is None or is_partial(folder):
        return None
    return Evaluation(
        when=label["when"],
        position=int(label["position"]),
        evaluator=label["evaluator"],
        folder=folder,
        figures=_json(folder / "result.json") or {},
        episodes=_lines(folder / "episodes.jsonl"),
    )
