"""Kind ``executor``: where the pieces of a large job (index, statistics, conversion) are worked on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Annotated, ClassVar, Protocol, TypeAlias, TypeVar

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

__all__ = ["AnyExecutor", "Executor", "ExecutorConfig"]

State = TypeVar("State")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Executor(Protocol):
    """Does one thing to many pieces, somewhere."""

    def map(
        self, work: Callable[[State, Piece], Result], pieces: Sequence[Piece], *, setup: Callable[[], State]
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield ``(number of the piece, work(state, piece))`` of every piece, in the order they are done.

        Every worker calls ``setup`` once, before its first piece, for what it keeps from piece to piece. All
        that is given may travel: ``work`` and ``setup`` are functions of a module or ``functools.partial`` of
        such, pieces and results can be pickled. What is written or read by ``work`` must lie where every
        worker sees it. Closing the generator, and whatever is raised in it, ends all work.

        Raises:
            OpenVLAError: a worker died; names the piece and the remedy.
            Exception: what ``setup`` or ``work`` raised, of the first piece that failed.
        """
        ...


class ExecutorConfig(ComponentConfig):
    """Settings of one executor."""

    kind: ClassVar[str] = "executor"

    @abstractmethod
    def build(self) -> Executor:
        """Make the executor; workers begin with ``map``."""


AnyExecutor: TypeAlias = Annotated[
    SerializeAsAny[ExecutorConfig], BeforeValidator(by_name("executor", default="processes"))
]
