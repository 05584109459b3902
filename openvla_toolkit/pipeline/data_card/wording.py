"""What the robot is told: how often, how variously, and where it is told nothing.

Legend of shapes: F frames, E episodes, N texts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Wording", "wording_of"]

SHOWN = 5
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The instructions of a data set."""

    texts: int
    """Different ones, the empty one not counted."""
    frequent: Sequence[tuple[str, int]]
    """The most frequent, with the number of episodes that begin with it."""
    alike: Sequence[Sequence[str]]
    """Texts that differ in nothing but case, spaces and punctuation, some groups of them."""
    alike_groups: int
    empty_frames: int
    empty_episodes: int
    """Episodes that tell the robot nothing at any frame."""
    changing_episodes: int
    """Episodes in which the instruction changes."""


def wording_of(index: EpisodeIndex) -> Wording:
    """Count the instructions of an index."""
    texts = list(index.instructions)
    empty = np.array([not text.strip() for text in texts], dtype=bool)
    first = index.instruction_of[index.starts[:-1]]
    told = np.bincount(first, minlength=len(texts))
    untold = np.bincount(index.instruction_of, minlength=len(texts))[empty].sum()
    changes = np.flatnonzero(np.diff(index.instruction_of)) + 1
    inside = changes[~np.isin(changes, index.starts)]
    changing = np.unique(np.searchsorted(index.starts, inside, side="right") - 1)
    groups = _alike([text for text, nothing in zip(texts, empty, strict=True) if not nothing])
    silent = empty[first].copy()
    for episode in changing:
        silent[episode] &= _all_empty(index, int(episode), empty)
    order = np.argsort(-told, kind="stable")
    return Wording(
        texts=int((~empty).sum()),
        frequent=[(texts[at], int(told[at])) for at in order[:SHOWN] if told[at] and not empty[at]],
        alike=groups[:SHOWN],
        alike_groups=len(groups),
        empty_frames=int(untold),
        empty_episodes=int(silent.sum()),
        changing_episodes=len(changing),
    )


def _all_empty(index: EpisodeIndex, episode: int, empty: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    return bool(empty[index.instruction_of[index.starts[episode] : index.starts[episode + 1]]].all())


def _alike(texts: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        groups[_SEPARATORS.sub(" ", text.casefold()).strip()].append(text)
    return [group for group in groups.values() if len(group) > 1]
