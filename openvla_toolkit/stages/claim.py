"""Whose an output folder is: one run's, one process at a time, with settings that stay."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from openvla_toolkit.checkpoints.layout import STOPPED_FILE, checkpoints_of, step_of
from openvla_toolkit.core.errors import RecipeError, RunInterrupted, UserError
from openvla_toolkit.core.lockfile import LOCK_NAME, write_lock
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.storage import atomic_write_text, is_partial, storage_errors

__all__ = ["FIXED_BY_THE_RUN", "check_length", "claimed", "stop_noted"]

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
        UserError: the folder holds a run and ``resume`` was not asked for, or it is past the end that the
            recipe gives; or another process works in the folder.
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
        (output / STOPPED_FILE).unlink(missing_ok=True)
        yield


@contextmanager
def stop_noted(output: Path) -> Iterator[None]:
    """Leave in the run's folder which signal ended the block: job scripts look there whether to go on.

    An exit code would not tell them: a queue ends all processes with the first, and takes the highest.
    """
    try:
        yield
    except RunInterrupted as error:
        atomic_write_text(output / STOPPED_FILE, f"{error.signal.name}\n")
        raise


def check_length(checkpoint: Path, *, steps: int) -> None:
    """Refuse to go on from a checkpoint that is past the end; raises ``UserError``."""
    if (step := step_of(checkpoint)) > steps:
        raise UserError(f"the checkpoint {checkpoint} is at step {step}, past train.steps={steps}.")


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
        if (found := _first_difference(_at(before, path), _at(now, path), path)) is not None:
            place, old, new = found
            raise RecipeError(
                f"the run in {lock.parent} was started with {_named(old)}, not {_named(new)}; resume it with "
                "the same value, or choose another output=FOLDER.",
                path=place,
            )
    if recipe.train is not None and recipe.train.epochs is None:
        for newest in checkpoints_of(lock.parent)[-1:]:
            check_length(newest, steps=recipe.train.steps)
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


def _first_difference(old: Any, new: Any, path: str) -> tuple[str, Any, Any] | None:
    """Return path and both values of the first setting that differs; None where all are the same.

    Folders of data may be others: whether it is the same data, ``data.lock.json`` tells.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("name") != new.get("name"):
            return path, old, new
        keys = [key for key in dict.fromkeys([*old, *new]) if key != "root"]
        pairs = [(str(key), old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(position), *both) for position, both in enumerate(zip(old, new, strict=True))]
    else:
        return None if old == new else (path, old, new)
    found = (_first_difference(before, now, f"{path}.{key}") for key, before, now in pairs)
    return next((one for one in found if one is not None), None)


def _named(value: Any) -> Any:
    """Return a component, or several, as their names: their settings would fill the screen."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    return value.get("name", value) if isinstance(value, dict) else value


def _at(data: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data
