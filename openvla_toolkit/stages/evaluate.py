"""The evaluate stage: every evaluator of the recipe, its results whole on disk or not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.interfaces.policy import Policy

__all__ = ["RESULT_FILE", "evaluate", "results_of"]

RESULT_FILE = "result.json"
_log = logging.getLogger(__name__)


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
        measured = _what(config, checkpoint)
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


def results_of(
    configs: Mapping[int, EvaluatorConfig], *, label: str, output: Path
) -> dict[str, Mapping[str, Any]]:
    """Return the figures of evaluators that lie in a run folder, for a policy that is gone.

    Figures that were measured with other settings are left out, and that is said on the log.
    """
    figures: dict[str, Mapping[str, Any]] = {}
    for position, config in configs.items():
        name = f"{label}-{position}-{config.name}"
        found = _read(output / "evaluation" / name)
        if found.get("measured") == _what(config, None):
            figures[name] = found
        else:
            state = "were measured with other settings" if found else "are missing"
            _log.warning("the figures %s %s, and the policy that they are of is gone: left out.", name, state)
    return figures


def _what(config: EvaluatorConfig, checkpoint: str | None) -> dict[str, Any]:
    """Return what decides whether two figures are the same one."""
    return {"checkpoint": checkpoint, "settings": config.model_dump(mode="json")}
