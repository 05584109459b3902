"""Every exception of the toolkit, tree first.

    OpenVLAError                      something went wrong; exit code 1
    ├── DataError                     bytes on disk are not what their format promises
    ├── CheckpointError               a checkpoint is missing, half-written or of another architecture
    ├── TrainingError                 training cannot go on (non-finite loss, exhausted data, ...)
    ├── DownloadError                 a file cannot be fetched, or arrived damaged
    ├── EpisodeError                  an episode of an evaluation could not be run to its end
    ├── StorageError                  the disk is full or refuses to be written
    ├── RunInterrupted                Ctrl-C or SIGTERM, after a checkpoint was saved; exit code 130
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
    "OpenVLAError",
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


class DownloadError(OpenVLAError):
    """A file cannot be fetched, or arrived damaged; names it and the reason."""


class EpisodeError(OpenVLAError):
    """An episode of an evaluation could not be run to its end; names episode, seed and cause."""


class StorageError(OpenVLAError):
    """The disk is full or refuses to be written."""


class RunInterrupted(OpenVLAError):
    """The run was stopped by a signal after it had saved its state."""

    exit_code = 130


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
