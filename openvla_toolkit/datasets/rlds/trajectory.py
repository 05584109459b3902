"""Values of a trajectory: a nested mapping of arrays with a leading time axis.

Legend of shapes: T steps, N numbers of one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, RecipeError, did_you_mean

__all__ = ["METADATA", "find", "leaves", "length_of", "numbers", "repeat", "texts"]

METADATA = "traj_metadata"
"""Where the features of a whole episode stand, repeated for every step (dlimp's name)."""


def find(tree: Mapping[str, Any], key: str, *, setting: str) -> Any:
    """Look an array up by its path (``observation/state``); ``setting`` is what asks for it.

    Raises:
        RecipeError: there is no such array; lists those that exist.
    """
    known = dict(leaves(tree))
    if key not in known:
        raise RecipeError(
            f"there is no '{key}'.{did_you_mean(key, known)} There are: {', '.join(sorted(known))}.",
            path=setting,
        )
    return known[key]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and array of every value of a nested mapping."""
    for name, inner in tree.items():
        if isinstance(inner, Mapping):
            yield from leaves(inner, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", inner


def numbers(values: Any, *, key: str) -> NDArray[np.float32]:
    """Return [T, N] float32.

    Raises:
        DataError: there is something else than numbers, or one is not finite; names the frame.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"expected numbers, found {array.dtype}.", key=key)
    flat = array.reshape(len(array), -1 if array.size else int(np.prod(array.shape[1:]))).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if len(bad):
        raise DataError(
            f"expected finite numbers, found {flat[bad[0]].tolist()}.", frame=int(bad[0]), key=key
        )
    return flat


def texts(values: Any, *, key: str) -> list[str]:
    """Return [T] strings."""
    try:
        return [value.decode("utf-8") if isinstance(value, bytes) else _text(value) for value in values]
    except (UnicodeDecodeError, TypeError) as error:
        raise DataError(f"expected texts: {error}.", key=key) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {type(value).__name__}")
    return value


def length_of(steps: Mapping[str, Any]) -> int:
    """Return T.

    Raises:
        DataError: the arrays have not all the same length; names one that is short.
    """
    lengths = {path: len(array) for path, array in leaves(steps)}
    length = max(lengths.values(), default=0)
    for path, found in lengths.items():
        if found != length:
            raise DataError(
                f"it has {found} steps, others of the episode have {length}.", key=f"steps/{path}"
            )
    return length


def repeat(tree: Any, length: int) -> Any:
    """Give every value of an episode a leading time axis."""
    if isinstance(tree, Mapping):
        return {name: repeat(inner, length) for name, inner in tree.items()}
    if isinstance(tree, (str, bytes)):
        return np.array([tree] * length, dtype=object)
    return np.repeat(np.asarray(tree)[None], length, axis=0)
