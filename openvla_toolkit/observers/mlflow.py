"""MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.observers.run_ids import run_id

try:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient
except ModuleNotFoundError as error:
    raise MissingDependency("observer 'mlflow'", "mlflow", install="openvla-toolkit[mlflow]") from error

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.observers import MLflowConfig

__all__ = ["MLflow"]

_LONGEST = 500
"""Characters of a parameter that every store of MLflow takes."""
_MOST = 100
"""Parameters that one call may log."""


class MLflow:
    """Logs every number as ``<stage>/<name>`` at the stage's own steps, and the recipe as parameters.

    A store of files keeps one file per metric: what a name says of one data set (``l1/bridge``) follows a dot
    (``l1.bridge``), so that no metric needs a folder where another one is a file.
    """

    name = "mlflow"

    def __init__(self, config: MLflowConfig) -> None:
        self._config = config
        self._client: MlflowClient
        self._run: str | None = None

    @observe
    def run_started(self, recipe: Recipe, output: Path) -> None:
        """Begin a run, or go on with the one of this folder.

        Without a server, runs lie in ``mlruns/`` of the run folder (``mlflow ui --backend-store-uri``).
        """
        output.mkdir(parents=True, exist_ok=True)
        place = self._config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:
            place = (output / "mlruns").resolve().as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for a database
        self._client = MlflowClient(place)
        self._run = run_id(output, self.name, lambda: self._created(recipe, self._config.run or output.name))
        self._client.update_run(self._run, status="RUNNING")

    def _created(self, recipe: Recipe, name: str) -> str:
        """Make a run with the recipe in it; return its id."""
        client, experiment = self._client, self._config.experiment
        known = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if known is None else known.experiment_id
        made: str = client.create_run(place, run_name=name).info.run_id
        parameters = [
            Param(key, value[:_LONGEST]) for key, value in _flat(recipe.model_dump(mode="json")) if value
        ]
        for first in range(0, len(parameters), _MOST):
            client.log_batch(made, params=parameters[first : first + _MOST])
        return made

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers; what is planned (``total``) is no measurement."""
        prefix = stage.replace(" ", "/")
        numbers = {key: value for key, value in values.items() if key != "total"}
        now = time.time_ns() // 1_000_000
        metrics = [
            Metric(f"{prefix}/{_named(key)}", float(value), now, step) for key, value in numbers.items()
        ]
        if metrics and self._run is not None:
            self._client.log_batch(self._run, metrics=metrics)

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        """End the run; a failed one is marked as failed."""
        if self._run is not None:
            self._client.set_terminated(self._run, "FINISHED" if error is None else "FAILED")


def _named(key: str) -> str:
    """Return a metric's name in MLflow, which takes no characters but these."""
    return re.sub(r"[^\w.\- ]", "_", key.replace("/", "."))


def _flat(settings: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a recipe as ``data.0.root``."""
    entries = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in entries:
        place = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list) and value:
            yield from _flat(value, place)
        else:
            yield place, str(value)
