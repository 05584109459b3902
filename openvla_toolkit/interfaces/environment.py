"""Kind ``environment``: a world to act in, with Gymnasium's API and the toolkit's keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from openvla_toolkit.core.contract import Interface

__all__ = ["AnyEnvironment", "Demonstrator", "Environment", "EnvironmentConfig"]


class Environment(Protocol):
    """Gymnasium's ``reset``, ``step`` and ``close``.

    Observations are mappings with ``observation.images.<camera>`` (uint8 [height, width, 3] RGB),
    ``observation.state`` (float32 [P]) and ``task`` (the instruction). ``info`` carries ``is_success`` and
    ``family``. Options of ``reset``: ``family`` picks a task family; ``swap`` keeps scene and goal but words
    the instruction for another object of the scene (the swap probe of language grounding).
    """

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Start an episode; the same seed and options give the same episode."""
        ...

    def step(
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[Mapping[str, Any], float, bool, bool, Mapping[str, Any]]:
        """Act once ([A], the embodiment's units); return observation, reward, terminated, truncated, info."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


class Demonstrator(Protocol):
    """What an environment may offer besides: a scripted expert."""

    def expert_action(self) -> NDArray[np.floating[Any]]:
        """Return the expert's action [A] for the present state."""
        ...


class EnvironmentConfig(ComponentConfig):
    """Settings of one environment."""

    kind: ClassVar[str] = "environment"

    @abstractmethod
    def build(self) -> Environment:
        """Make one environment; many are made, each in its own process."""

    @abstractmethod
    def interface(self) -> Interface:
        """Return cameras, state, actions and control rate: the world's side of the contract."""

    @abstractmethod
    def families(self) -> tuple[str, ...]:
        """Return the names of the task families that ``reset`` knows."""


AnyEnvironment: TypeAlias = Annotated[
    SerializeAsAny[EnvironmentConfig], BeforeValidator(by_name("environment"))
]
