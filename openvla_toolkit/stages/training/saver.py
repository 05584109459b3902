"""Checkpoints, written beside the training: copied in the step, written on a thread, whole or not there."""

from __future__ import annotations

import json
import logging
import math
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openvla_toolkit.checkpoints.layout import STATE_FILE, TRAINING_STATE, checkpoints_of, way_past
from openvla_toolkit.core.errors import CheckpointError, did_you_mean
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.processes import told_while_saving
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import KeepBest
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.interfaces.engine import Engine
from openvla_toolkit.interfaces.policy import Policy

__all__ = ["Saver", "best_checkpoint", "loop_state"]

_log = logging.getLogger(__name__)


class Saver:
    """Writes one checkpoint at a time and keeps some.

    All ranks call ``save`` at the same steps. Each writes its part of the training state into the folder that
    rank 0 made; rank 0 writes the policy, waits for all parts, and gives the folder its name.
    """

    def __init__(
        self,
        policy: Policy,
        engine: Engine,
        *,
        output: Path,
        keep: int,
        keep_best: KeepBest | None,
        tell: Facts,
    ) -> None:
        self._policy, self._engine = policy, engine
        self._output, self._keep, self._keep_best, self._tell = output, keep, keep_best, tell
        self._writing: _Writing | None = None
        self._newest: int | None = None
        self._warned = False
        self.last: Path | None = None
        """The newest checkpoint that is whole."""

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy what the checkpoint of a step holds, and begin to write it; one before it is finished first.

        The checkpoint of a step is written once.

        Args:
            state: the loop's own state, plain data; ``figures`` in it are what ``keep_best`` looks at. A
                checkpoint without the figure is saved as any other, and is never the best one.

        Raises:
            StorageError: a checkpoint before it could not be written.
        """
        if step == self._newest:
            return
        self._newest = step
        self.finish()
        self._warn_of_no_figure(state["figures"])
        weights = self._engine.full_weights(self._policy.weight_names())
        write_part = self._engine.save()
        path = self._output / "checkpoints" / f"step-{step:06d}"

        def write() -> None:
            if not Ranks.here().is_first:
                write_part(told_while_saving(None))
                return
            with atomic_folder(path, replace=True) as folder:
                parts = folder / TRAINING_STATE
                parts.mkdir()
                write_part(told_while_saving(parts))
                self._policy.save(folder, weights=weights)
                (parts / STATE_FILE).write_text(json.dumps({"step": step, **state}))
            self._remove_old(path)

        self._writing = _Writing(step, path, write)

    def poll(self) -> None:
        """Tell of a checkpoint that has become whole since; raise what kept it from becoming so."""
        if self._writing is not None and not self._writing.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint that is being written is whole."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        writing.finish()
        self.last = writing.path
        self._tell.checkpoint_saved(step=writing.step, path=writing.path)

    def _warn_of_no_figure(self, figures: Mapping[str, float]) -> None:
        """Say once that the training tells no such figure; held-out data are not measured at every step."""
        keep = self._keep_best
        if self._warned or keep is None or not figures or keep.metric in figures:
            return
        if Ranks.here().is_first and not keep.metric.startswith("validation/"):
            self._warned = True
            _log.warning(
                "train.keep_best: no figure '%s', so no checkpoint is the best one.%s There are %s.",
                keep.metric,
                did_you_mean(keep.metric, figures),
                ", ".join(sorted(figures)),
            )

    def _remove_old(self, newest: Path) -> None:
        whole = checkpoints_of(self._output)
        kept = {newest, *whole[-self._keep :]}
        if self._keep_best is not None:
            kept.add(best_checkpoint(whole, self._keep_best) or newest)
        for path in whole:
            if path not in kept:
                _remove(path)


class _Writing(threading.Thread):
    """A checkpoint on its way to the disk."""

    def __init__(self, step: int, path: Path, write: Callable[[], None]) -> None:
        super().__init__(name=f"write {path.name}", daemon=True)
        self.step, self.path = step, path
        self._write = write
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # whatever it is, it is the main thread's to raise
            self._error = error

    def finish(self) -> None:
        """Wait for the end; raise what went wrong."""
        self.join()
        if self._error is not None:
            raise self._error


def best_checkpoint(checkpoints: Sequence[Path], keep: KeepBest) -> Path | None:
    """Return the checkpoint with the best finite figure, the oldest of equals; None where none has one."""
    sign = 1 if keep.best == "highest" else -1
    ranks = []
    for position, path in enumerate(checkpoints):
        value = loop_state(path)["figures"].get(keep.metric, math.nan)
        if math.isfinite(value):
            ranks.append((sign * value, -position))
    return checkpoints[-max(ranks)[1]] if ranks else None


def loop_state(checkpoint: Path) -> dict[str, Any]:
    """Read back the loop's own state of a checkpoint; raises ``CheckpointError`` where it is damaged."""
    file = checkpoint / TRAINING_STATE / STATE_FILE
    try:
        state: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. {way_past(file)}") from error
    return state


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; one that is half gone must not look whole."""
    condemned = checkpoint.with_name(f"{checkpoint.name}.partial-removed")
    checkpoint.rename(condemned)
    shutil.rmtree(condemned)
