"""The evaluate stage: every evaluator of the recipe, its results whole on disk or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.interfaces.policy import Policy

__all__ = ["RESULT_FILE", "evaluate", "results_of"]

RESULT_FILE = "result.json"


def evaluate(
    configs: Mapping[int, EvaluatorConfig],
    policy: Policy,
    *,
    label: str,
    output: Path,
    tell: Facts,
    checkpoint: str | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Run the evaluators, given by their positions in the recipe.

    What a resumed run has evaluated already, with the same settings and of the same ``checkpoint``, is read
    back and not measured again.

    Returns:
        Figures under ``<label>-<position>-<name>``; beside the evaluator's own, ``measured`` says of what.
    """
    figures: dict[str, Mapping[str, Any]] = {}
    for position, config in configs.items():
        name = f"{label}-{position}-{config.name}"
        folder = output / "evaluation" / name
        measured = {"checkpoint": checkpoint, "settings": config.model_dump(mode="json")}
        if _read(folder).get("measured") != measured:
            _measure(config, policy, name, folder, tell, measured)
        figures[name] = _read(folder)
    return figures


def _measure(
    config: EvaluatorConfig,
    policy: Policy,
    name: str,
    folder: Path,
    tell: Facts,
    measured: Mapping[str, Any],
) -> None:
    def progress(done: int, values: Mapping[str, float]) -> None:
        tell.metrics_logged(stage=f"evaluate {name}", step=done, values=values)

    with atomic_folder(folder, replace=True) as partial:
        figures = config.build().evaluate(policy, partial, progress)
        (partial / RESULT_FILE).write_text(json.dumps({**figures, "measured": measured}, indent=1))


def _read(folder: Path) -> dict[str, Any]:
    """Return the figures in a folder; empty where there are none yet."""
    path = folder / RESULT_FILE
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return figures


def results_of(output: Path, *, label: str) -> dict[str, Mapping[str, Any]]:
    """Return the figures that lie in a run folder under a label, by name."""
    paths = sorted((output / "evaluation").glob(f"{label}-*/{RESULT_FILE}"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}
