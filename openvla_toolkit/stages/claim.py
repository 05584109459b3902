"""Whose an output folder is: one run's, one process at a time, with settings that stay."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.lockfile import LOCK_NAME, write_lock
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.storage import is_partial, storage_errors

__all__ = ["FIXED_BY_THE_RUN", "claimed"]

FIXED_BY_THE_RUN = (
    "seed",
    "policy",
    "data",
    "train.batch.total",
    "train.optimizer",
    "train.schedule",
    "train.clip_norm",
    "train.frames",
    "train.engine.precision",
    "train.loader.shuffle",
)
"""What a resumed run may not change: with other values it would be another run."""

_log = logging.getLogger(__name__)


@contextmanager
def claimed(recipe: Recipe, *, resume: bool) -> Iterator[None]:
    """Hold the output folder for this process, and leave the lock file of the recipe in it.

    A run that ended before it left a checkpoint or figures holds nothing to lose: it is begun anew.

    Raises:
        UserError: the folder holds a run and ``resume`` was not asked for, or another process works in it.
        RecipeError: resuming with other settings; names the first.
        StorageError: the folder cannot be written.
    """
    output = recipe.output
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    with locked(output) as held:
        if held is False:
            raise UserError(
                f"another process is running in {output}: wait for it, or choose another output=FOLDER."
            )
        _sweep(output)
        if checkpoints_of(output) or any(output.glob("evaluation/*/result.json")):
            if not resume:
                raise UserError(
                    f"{output} holds a run already: go on with it with --resume, or choose another "
                    "output=FOLDER."
                )
            _check_same_run(recipe, output / LOCK_NAME)
        write_lock(recipe, output)
        yield


def _sweep(output: Path) -> None:
    """Remove what a run that was killed while it was writing left behind."""
    for folder in (output / "checkpoints", output / "evaluation"):
        for leftover in filter(is_partial, folder.glob("*")):
            shutil.rmtree(leftover)


def _check_same_run(recipe: Recipe, lock: Path) -> None:
    if not lock.exists():
        raise UserError(f"{lock.parent} holds a run without its {LOCK_NAME}: choose another output=FOLDER.")
    before = yaml.safe_load(lock.read_text())
    now = recipe.model_dump(mode="json")
    for path in FIXED_BY_THE_RUN:
        old, new = _at(before, path), _at(now, path)
        if old != new:
            raise RecipeError(
                f"the run in {lock.parent} was started with {old}, not {new}; resume it with the same value, "
                "or choose another output=FOLDER.",
                path=path,
            )
    _tell_of_the_schedule(_at(before, "train"), _at(now, "train"))


def _tell_of_the_schedule(before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    """Say that another end bends the learning rate, for all schedules but the constant one."""
    if before is None or now is None or now["schedule"]["name"] == "constant":
        return
    old, new = _end(before), _end(now)
    if old != new:
        _log.warning(
            "%s was %s and%s is now %s: from here on the learning rate is that of a run of %s %s, since the "
            "schedule '%s' depends on its length.",
            f"train.{old[0]}",
            old[1],
            "" if old[0] == new[0] else f" train.{new[0]}",
            new[1],
            new[1],
            new[0],
            now["schedule"]["name"],
        )


def _end(train: dict[str, Any]) -> tuple[str, float]:
    """Return what says when the training ends, and its value."""
    key = "steps" if train.get("epochs") is None else "epochs"
    return key, train[key]


def _at(data: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data
