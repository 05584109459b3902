"""How often each data set of a mixture is drawn from, and how long an epoch of it is."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["epoch_length", "shares"]


def shares(weights: Sequence[float], sizes: Sequence[int], *, balance: bool) -> list[float]:
    """Return the probability of every data set; ``balance`` multiplies its weight by its number of frames."""
    scaled = [weight * size if balance else weight for weight, size in zip(weights, sizes, strict=True)]
    return [weight / sum(scaled) for weight in scaled]


def epoch_length(weights: Sequence[float], sizes: Sequence[int], *, balance: bool) -> int:
    """Return after how many samples every data set of weight 1 has been seen once, as the original counts.

    Where no weight is 1, where the original has no answer, the data sets of the largest weight count.
    """
    chosen = 1.0 if 1.0 in weights else max(weights)
    probabilities = shares(weights, sizes, balance=balance)
    return int(
        max(
            size / probability
            for weight, size, probability in zip(weights, sizes, probabilities, strict=True)
            if weight == chosen
        )
    )
