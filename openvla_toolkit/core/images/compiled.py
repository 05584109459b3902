"""Loops over pixels as machine code: Numba compiles them at the first call and keeps the result on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["compiled"]

Loop = TypeVar("Loop", bound=Callable[..., Any])

_ASSUMED = {"contract", "nnan", "ninf", "nsz"}
"""Products and sums may become one instruction, and there is no NaN; sums are never reordered, so that the
same numbers come out however wide the machine's registers are."""


def compiled(function: Loop) -> Loop:
    """Compile a function of arrays and numbers; it frees the interpreter's lock and runs on one thread."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _ASSUMED}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
