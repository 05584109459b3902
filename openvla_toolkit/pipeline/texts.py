"""Many texts as two arrays on disk, of which only what is asked for is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["TextTable"]


class TextTable(Sequence[str]):
    """N texts, decoded when they are asked for.

    Args:
        data: uint8 [bytes], the texts one after the other in UTF-8.
        ends: int64 [N], where each ends.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> list[str]: ...

    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"text {position} of {len(self)}")
        position %= len(self)
        start = int(self._ends[position - 1]) if position else 0
        return self._data[start : int(self._ends[position])].tobytes().decode()
