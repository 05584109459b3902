"""Split expressions of TFDS: ``train``, ``train[:95%]``, ``train[10:20]``, ``train+val``, ``all``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from openvla_toolkit.core.errors import RecipeError, did_you_mean

__all__ = ["Part", "select"]

EXPRESSION = re.compile(r"(?P<name>[\w-]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


class Part(NamedTuple):
    """Episodes ``start`` to ``stop`` (excluded) of one split."""

    split: str
    start: int
    stop: int


def select(expression: str, sizes: Mapping[str, int]) -> list[Part]:
    """Return the parts that an expression names, given the number of episodes of every split.

    Percentages are rounded to the nearest episode, as TFDS does; bounds past either end are clipped.

    Raises:
        RecipeError: the expression cannot be read, names an unknown split, or selects no episode.
    """
    if expression == "all":
        return _filled(expression, [Part(name, 0, size) for name, size in sizes.items()], sizes)
    return _filled(expression, [_part(term.strip(), sizes) for term in expression.split("+")], sizes)


def _part(term: str, sizes: Mapping[str, int]) -> Part:
    match = EXPRESSION.fullmatch(term)
    if match is None:
        raise RecipeError(
            f"'{term}' is not a split. Write train, train[:95%], train[10:20], train+val or all.",
            path="split",
        )
    name = match["name"]
    if name not in sizes:
        raise RecipeError(
            f"there is no split '{name}'.{did_you_mean(name, sizes)} There are: {_show(sizes)}. "
            f"{_parts(sizes)}",
            path="split",
        )
    size = sizes[name]
    return Part(name, _bound(match["start"], size, otherwise=0), _bound(match["stop"], size, otherwise=size))


def _bound(text: str | None, size: int, *, otherwise: int) -> int:
    if not text:
        return otherwise
    position = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return min(max(position + size if text.startswith("-") else position, 0), size)


def _filled(expression: str, parts: list[Part], sizes: Mapping[str, int]) -> list[Part]:
    filled = [part for part in parts if part.stop > part.start]
    if not filled:
        raise RecipeError(f"'{expression}' selects no episode. There are: {_show(sizes)}.", path="split")
    return filled


def _parts(sizes: Mapping[str, int]) -> str:
    """Say how a part is written; of a single split the lines with which the original divides it."""
    if len(sizes) != 1:
        return "A part of a split is written train[95%:]."
    (name,) = sizes
    return (
        f"To divide it as OpenVLA does, write 'split: {name}[:95%]' to train and 'split: {name}[95%:]' to "
        "validate."
    )


def _show(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({size} episodes)" for name, size in sizes.items()) or "none"
