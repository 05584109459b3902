"""Kind ``launcher``: how the processes of a run are started, here or on other machines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe

__all__ = ["AnyLauncher", "Launcher", "LauncherConfig"]


class Launcher(Protocol):
    """One method. Every process is the same ``openvla run`` with torchrun's variables in its environment."""

    def launch(self, words: Sequence[str], *, recipe: Recipe) -> None:
        """Start ``openvla`` with these words in every process; return when all has ended well.

        A launcher that hands the run to a queue returns when the queue has it. It passes on SIGINT, SIGTERM
        and SIGUSR1 to its processes, and leaves none of them behind.

        Args:
            words: what stands behind ``openvla`` on the command line, the launcher's own options left out.
            recipe: what will be run, for names and folders.

        Raises:
            RankFailed: a process failed; names the rank, how it ended and its last error.
            RunInterrupted: the run was stopped by a signal.
            UserError: what it needs is not there.
        """
        ...


class LauncherConfig(ComponentConfig):
    """Settings of one launcher."""

    kind: ClassVar[str] = "launcher"

    @property
    @abstractmethod
    def processes(self) -> int:
        """How many processes the run will have."""

    @abstractmethod
    def build(self) -> Launcher:
        """Make the launcher; nothing is started yet."""


AnyLauncher: TypeAlias = Annotated[SerializeAsAny[LauncherConfig], BeforeValidator(by_name("launcher"))]
