"""Every exception of the toolkit, tree first.

    OpenVLAError                      something went wrong; exit code 1
    ├── DataError                     bytes on disk are not what their format promises
    ├── CheckpointError               a checkpoint is missing, half-written or of another architecture
    ├── TrainingError                 training cannot go on (non-finite loss, exhausted data, ...)
    │   ├── NotFinite                 a step's loss or gradient is not finite; nothing was updated
    │   ├── NotAsTrained              a checkpoint does not act as it was trained
    │   ├── OutOfMemory               no room for what the training takes
    │   └── RankLost                  another process of the run is gone, or makes no progress
    ├── RankFailed                    a process that a launcher started failed; its exit code
    ├── DownloadError                 a file cannot be fetched, or arrived damaged
    ├── EpisodeError                  an episode of an evaluation could not be run to its end
    ├── StorageError                  the disk is full or refuses to be written
    ├── RunInterrupted                Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was saved; 128 + N
    └── UserError                     the user can mend it by changing what they typed; exit code 2
        ├── RecipeError               the recipe has a mistake; carries file, line and path
        │   └── RecipeErrors          it has several; carries them all
        ├── UnknownComponent          no installed component of that kind has that name
        ├── AmbiguousComponent        two packages provide one name
        ├── BrokenComponent           the package that provides a name cannot be imported
        ├── MissingDependency         an optional package is not installed
        ├── MissingFile               a file or folder that was named does not exist
        └── ContractMismatch          policy and world (or data) disagree about what is exchanged

Messages are whole sentences: they name the thing, the place, what was expected and the remedy.
"""

from __future__ import annotations

import difflib
import math
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openvla_toolkit.core.locations import RemotePath

__all__ = [
    "AmbiguousComponent",
    "BrokenComponent",
    "CheckpointError",
    "ContractMismatch",
    "DataError",
    "DownloadError",
    "EpisodeError",
    "MissingDependency",
    "MissingFile",
    "NotAsTrained",
    "NotFinite",
    "OpenVLAError",
    "OutOfMemory",
    "RankFailed",
    "RankLost",
    "RecipeError",
    "RecipeErrors",
    "RunInterrupted",
    "StorageError",
    "TrainingError",
    "UnknownComponent",
    "UserError",
    "did_you_mean",
]


class OpenVLAError(Exception):
    """Base of all errors that the toolkit raises on purpose."""

    exit_code = 1

    def __reduce__(self) -> tuple[Callable[..., OpenVLAError], tuple[object, ...]]:
        """Travel between processes as what was said: the arguments of a class are its own affair."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[OpenVLAError], words: tuple[object, ...], state: dict[str, object]) -> OpenVLAError:
    error = kind.__new__(kind)
    error.args = words
    error.__dict__.update(state)
    return error


class DataError(OpenVLAError):
    """Say which bytes are wrong: file, episode, frame and key as far as they are known."""

    def __init__(
        self,
        reason: str,
        *,
        file: str | Path | RemotePath | None = None,
        episode: int | str | None = None,
        frame: int | None = None,
        key: str | None = None,
    ) -> None:
        self.reason, self.file, self.episode, self.frame, self.key = reason, file, episode, frame, key
        place = [str(file)] if file is not None else []
        place += [
            f"{label} {value}"
            for label, value in (("episode", episode), ("frame", frame))
            if value is not None
        ]
        place += [f"'{key}'"] if key is not None else []
        super().__init__(f"{', '.join(place)}: {reason}" if place else reason)


class CheckpointError(OpenVLAError):
    """A checkpoint is missing, half-written or of another architecture."""


class TrainingError(OpenVLAError):
    """Training cannot go on."""


class NotFinite(TrainingError):
    """A step's loss or gradient is not finite, on all ranks alike; nothing was updated."""

    def __init__(self, *, loss: float, grad_norm: float) -> None:
        self.loss, self.grad_norm = loss, grad_norm
        what = f"the norm of the gradient is {grad_norm}, of a loss of {loss:.6g}"
        self.what = what if math.isfinite(loss) else f"the loss is {loss}"
        super().__init__(f"{self.what}; lower train.optimizer.lr, keep train.clip_norm on, or train in fp32.")


class NotAsTrained(TrainingError):
    """What a checkpoint does when it acts is not what it learned: both sides are named."""


class OutOfMemory(TrainingError):
    """A device, or the machine, has no room for what the training takes."""


class RankLost(TrainingError):
    """Another process of the run is gone, or makes no progress: it is the one to ask for the reason."""


class RankFailed(OpenVLAError):
    """A process that a launcher started failed: which one, how it ended, and its last error."""

    def __init__(self, reason: str, *, code: int = 1) -> None:
        self.exit_code = code
        super().__init__(reason)


class DownloadError(OpenVLAError):
    """A file cannot be fetched, or arrived damaged; names it and the reason."""


class EpisodeError(OpenVLAError):
    """An episode of an evaluation could not be run to its end; names episode, seed and cause."""


class StorageError(OpenVLAError):
    """The disk is full or refuses to be written."""


class RunInterrupted(OpenVLAError):
    """The run was stopped by a signal after it had saved its state.

    The exit code is the shells': 128 + the number of the signal, 130 for Ctrl-C, 143 for SIGTERM, 138 for
    SIGUSR1 on Linux. Queues that see 143 or 138 may start the same command again, with ``--resume``.
    """

    def __init__(self, reason: str, *, number: int = signal.SIGINT) -> None:
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number
        super().__init__(reason)


class UserError(OpenVLAError):
    """The user can mend this by changing what they typed."""

    exit_code = 2


class RecipeError(UserError):
    """A mistake in a recipe, printed as ``file:line: path: reason``."""

    def __init__(
        self, reason: str, *, file: str | Path | None = None, line: int | None = None, path: str | None = None
    ) -> None:
        self.reason, self.file, self.line, self.path = reason, file, line, path
        place = "" if file is None else str(file)
        place += "" if line is None else f":{line}"
        super().__init__(": ".join(part for part in (place, path or "", reason) if part))


class RecipeErrors(RecipeError):
    """Several mistakes in a recipe, printed one per line."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(map(str, errors)))


class UnknownComponent(UserError):
    """No installed component of this kind has this name."""

    def __init__(self, kind: str, name: str, installed: Iterable[str]) -> None:
        self.kind, self.name, self.installed = kind, name, sorted(installed)
        super().__init__(
            f"no {kind} named '{name}'.{did_you_mean(name, self.installed)} "
            f"Installed: {', '.join(self.installed) or 'none'}."
        )


class AmbiguousComponent(UserError):
    """More than one package provides this name."""

    def __init__(self, kind: str, name: str, packages: Sequence[str]) -> None:
        self.kind, self.name, self.packages = kind, name, sorted(packages)
        super().__init__(
            f"{kind} '{name}' is provided by more than one package: {', '.join(self.packages)}. "
            "Uninstall all but one, or name the ones to hide in OPENVLA_DISABLE_PLUGINS."
        )


class BrokenComponent(UserError):
    """The package that provides this name cannot be imported or does not keep to the interface."""

    def __init__(self, kind: str, name: str, package: str, cause: str) -> None:
        self.kind, self.name, self.package, self.cause = kind, name, package, cause
        super().__init__(f"{kind} '{name}' from {package} cannot be used: {cause.rstrip('.')}.")


class MissingDependency(UserError):
    """An optional package is needed and not installed."""

    def __init__(self, what: str, package: str, *, install: str) -> None:
        self.what, self.package, self.install = what, package, install
        super().__init__(f"{what} needs {package}: pip install '{install}'.")


class MissingFile(UserError):
    """A file or folder that was named does not exist."""


class ContractMismatch(UserError):
    """Two ends disagree about cameras, actions, normalisation or tokens."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
