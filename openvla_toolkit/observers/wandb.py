"""Weights & Biases."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.observers.run_ids import run_id

try:
    import wandb
except ModuleNotFoundError as error:
    raise MissingDependency("observer 'wandb'", "wandb", install="openvla-toolkit[wandb]") from error

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.observers import WandBConfig

__all__ = ["WandB"]


class WandB:
    """Sends every number as ``<stage>/<name>`` over the stage's own steps, and the recipe as settings."""

    name = "wandb"

    def __init__(self, config: WandBConfig) -> None:
        self._config = config
        self._run: Any = None
        self._stages: set[str] = set()

    @observe
    def run_started(self, recipe: Recipe, output: Path) -> None:
        """Begin a run, or go on with the one of this folder.

        Offline runs lie in ``wandb/`` of the run folder; a resumed one adds a folder there under the same id,
        and ``wandb sync`` joins them.
        """
        config = self._config
        output.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            name=config.run or output.name,
            group=config.group,
            dir=str(output),
            config=recipe.model_dump(mode="json"),
            id=run_id(output, self.name, lambda: secrets.token_hex(4)),
            resume="allow",
            # Its own talk would stand between the lines of the run; where to look is said below.
            settings=wandb.Settings(silent=True, console="off"),
        )
        if config.mode != "disabled":
            place = Path(self._run.dir).parent if self._run.offline else self._run.url
            sys.stderr.write(f"wandb: {place}\n")

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Send the numbers; stages count on their own, so each gets an axis of its own."""
        prefix = stage.replace(" ", "/")
        if prefix not in self._stages:
            self._stages.add(prefix)
            self._run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
        numbers = {f"{prefix}/{key}": value for key, value in values.items() if key != "total"}
        self._run.log({f"{prefix}/step": step, **numbers})

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        """End the run; a failed one is marked as failed."""
        if self._run is not None:
            self._run.finish(exit_code=0 if error is None else 1)
