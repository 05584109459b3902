"""Kind ``action_tokenizer``: continuous actions to token ids and back."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ActionTokenizer", "ActionTokenizerConfig", "AnyActionTokenizer"]


class ActionTokenizer(Protocol):
    """A code between numbers in [-1, 1] and token ids, one id per number. Ids never pass through text."""

    def encode(self, actions: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Map actions [...] to ids of the same shape; values outside [-1, 1] are clipped."""
        ...

    def decode(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Map ids [...] to the centres of their bins, same shape."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """Return every id that ``encode`` can give, ascending."""
        ...


class ActionTokenizerConfig(ComponentConfig):
    """Settings of one action tokenizer."""

    kind: ClassVar[str] = "action_tokenizer"

    @abstractmethod
    def build(self, *, vocabulary_size: int) -> ActionTokenizer:
        """Make the code for a text tokenizer of so many ids (added special tokens not counted)."""


AnyActionTokenizer: TypeAlias = Annotated[
    SerializeAsAny[ActionTokenizerConfig], BeforeValidator(by_name("action_tokenizer"))
]
