"""What is told about an episode: its plan, its course, its place in the log.

Shape legend: T steps of the episode, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EpisodePlan", "Outcome", "plan_episodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlan:
    """One episode to come; the same plan always gives the same scene, goal and instruction."""

    index: int
    seed: int
    family: str
    swap: bool = False

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the environment's ``reset``."""
        return {"family": self.family, "swap": True} if self.swap else {"family": self.family}

    def __str__(self) -> str:
        return (
            f"episode {self.index} (seed {self.seed}, family {self.family}{', swapped' if self.swap else ''})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One finished episode."""

    plan: EpisodePlan
    task: str
    """The instruction that the policy was given."""
    success: bool
    actions: NDArray[np.float32]
    """[T, A] what the policy did, in the embodiment's units."""
    expert: NDArray[np.float32] | None
    """[T, A] what the expert would have done in the same states, where there is an expert."""

    @property
    def steps(self) -> int:
        """How many actions the episode took."""
        return len(self.actions)

    def log_entry(self) -> dict[str, Any]:
        """Return the line of ``episodes.jsonl``."""
        plan = self.plan
        return {
            "episode": plan.index,
            "seed": plan.seed,
            "family": plan.family,
            "task": self.task,
            "success": self.success,
            "steps": self.steps,
            "swap": plan.swap,
        }


def plan_episodes(families: Sequence[str], *, episodes: int, swap_probe: int, seed: int) -> list[EpisodePlan]:
    """List all episodes: families take turns, episode ``i`` has ``seed + i``.

    The swap probe repeats the first scenes and goals under another object's instruction, so that each of its
    episodes has its like in the evaluation proper.
    """

    def plan(index: int, position: int, *, swap: bool) -> EpisodePlan:
        return EpisodePlan(
            index=index, seed=seed + position, family=families[position % len(families)], swap=swap
        )

    proper = [plan(index, index, swap=False) for index in range(episodes)]
    return proper + [plan(episodes + index, index, swap=True) for index in range(swap_probe)]
