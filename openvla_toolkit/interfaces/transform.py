"""Kind ``transform``: one trajectory in, one trajectory out, in plain NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

__all__ = ["KEEP", "AnyTransform", "Passed", "Traced", "Trajectory", "TransformConfig"]

Trajectory: TypeAlias = Mapping[str, Any]
"""A nested mapping of arrays with a leading time axis, as the data set's own features name them
(``observation/state``, ``action``, ``language_instruction``). Images are address arrays, so that dropping
or reordering steps treats them like any other key."""


KEEP = "keep"
"""Key under which a transform may say from which frames a sample is made: [T] bools. Data sets that have
transforms pass it on as ``Episode.keep``."""


class TransformConfig(ComponentConfig):
    """Settings of one transform."""

    kind: ClassVar[str] = "transform"

    @abstractmethod
    def build(self) -> Callable[[Trajectory], Trajectory]:
        """Return the function; it must not change its argument in place."""


AnyTransform: TypeAlias = Annotated[SerializeAsAny[TransformConfig], BeforeValidator(by_name("transform"))]


class Passed(NamedTuple):
    """What a transform has left of an episode."""

    transform: Mapping[str, Any]
    """Its settings, name first; empty for the episode as it was recorded."""
    frames: int
    samples: int
    """Frames from which a sample may be made."""


@runtime_checkable
class Traced(Protocol):
    """A data set that can show what its transforms do, for ``openvla data inspect``."""

    def trace(self, position: int) -> list[Passed]:
        """Return how many frames an episode had as recorded, and after each transform."""
        ...
