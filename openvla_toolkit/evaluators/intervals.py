"""Success rates with their uncertainty."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

__all__ = ["Rate", "wilson"]


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927), both ends in [0, 1].

    Unlike the normal approximation it holds for few trials and near 0 and 1. No trials tell nothing: (0, 1).

    Raises:
        ValueError: more successes than trials, or negative numbers.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials are impossible.")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else max(0.0, (centre - reach) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + reach) / scale)
    return low, high


@dataclass(frozen=True, slots=True)
class Rate:
    """A success rate with its Wilson 95 % interval."""

    successes: int
    episodes: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: list[bool]) -> Rate:
        """Count outcomes; an empty list has rate 0 and the interval (0, 1)."""
        successes, episodes = sum(outcomes), len(outcomes)
        return cls(successes, episodes, successes / max(1, episodes), *wilson(successes, episodes))

    def __format__(self, spec: str) -> str:
        """Write ``87.0 % [79.0, 92.2]``; ``spec`` is the width of the first number."""
        return f"{100 * self.rate:{spec or '0'}.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)
