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
    configs: Mapping[int, EvaluatorConfig], policy: Policy, *, label: str, output: Path, tell: Facts
) -> dict[str, Mapping[str, Any]]:
    """Run the evaluators, given by their positions in the recipe; return figures under ``<label>-<position>-<name>``.

    What a resumed run has evaluated already is read back, not measured again.
    """
    figures: dict[str, Mapping[str, Any]] = {}
    for position, config in configs.items():
        name = f"{label}-{position}-{config.name}"
        folder = output / "evaluation" / name
        if not (folder / RESULT_FILE).exists():
            _measure(config, policy, name, folder, tell)
        figures[name] = json.loads((folder / RESULT_FILE).read_text())
    return figures


def _measure(config: EvaluatorConfig, policy: Policy, name: str, folder: Path, tell: Facts) -> None:
    def progress(done: int, values: Mapping[str, float]) -> None:
        tell.metrics_logged(stage=f"evaluate {name}", step=done, values=values)

    with atomic_folder(folder, replace=True) as partial:
        figures = config.build().evaluate(policy, partial, progress)
        (partial / RESULT_FILE).write_text(json.dumps(figures, indent=1))


def results_of(output: Path, *, label: str) -> dict[str, Mapping[str, Any]]:
    """Return the figures that lie in a run folder under a label, by name."""
    paths = sorted((output / "evaluation").glob(f"{label}-*/{RESULT_FILE}"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}
