"""The memory model of training: what of it lies on a device, and how much."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from openvla_toolkit.stages.rehearsal import Part, Rehearsals, Rehearsed, stored_bytes

if TYPE_CHECKING:
    from openvla_toolkit.core.sections import Train
    from openvla_toolkit.interfaces.engine import Spread

__all__ = ["GB", "Footprint", "Room", "largest"]

GB = 10**9
"""Bytes: the one unit in which memory is told."""
_CONTEXT = 0.6 * GB
"""What CUDA takes on a device before the first tensor."""
_TALK = 0.5 * GB
"""What NCCL takes besides, where there are several devices."""
_LOST = 0.04
"""Share of what tensors take that the allocator loses between them."""
_FP32, _MOMENTS = 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes on one device at the peak of a step."""

    weights: float
    optimizer: float
    """AdamW's two means, copies of the weights where an engine keeps them, and a running mean."""
    gradients: float
    """At the time of the peak."""
    activations: float
    """What the backward pass waits for, logits included, and what an operation needs while it runs."""
    gathered: float
    """Blocks fetched from other devices, and their gradients on the way there."""
    overhead: float
    """CUDA's context, NCCL and what the allocator loses: an assumption."""

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(asdict(self).values()))


class Room:
    """What a training takes on each device, for any number of samples at a time."""

    def __init__(
        self,
        rehearsals: Rehearsals,
        train: Train,
        spread: Spread,
        *,
        ranks: int,
        text: int,
        learned: int,
        pictures: int,
    ) -> None:
        engine: Any = train.engine
        self._rehearsals, self._outline = rehearsals, rehearsals.outline
        self._train, self._spread, self._ranks = train, spread, ranks
        self._bf16 = getattr(engine, "precision", "fp32") == "bf16"
        self._twice = bool(getattr(engine, "activation_checkpointing", False))
        self._part = Part(samples=1, text=text, learned=learned, pictures=pictures)
        parameters = list(self._outline.parameters())
        trained = [one for one in parameters if one.requires_grad]
        self.parameters = sum(one.numel() for one in parameters)
        self.trained = sum(one.numel() for one in trained)
        self._stored = sum(map(stored_bytes, parameters))
        self._gradients = sum(stored_bytes(one) for one in trained)

    def rehearsed(self, samples: int) -> Rehearsed:
        """Return what a pass over so many samples takes."""
        return self._rehearsals.of(
            replace(self._part, samples=samples),
            bf16=self._bf16,
            computed_twice=self._twice,
            in_bf16=self._bf16 and self._spread.gathers,
        )

    def footprint(self, samples: int, *, passes: int) -> Footprint:
        """Return what lies on a device when so many samples pass at a time, in so many passes a step."""
        spread, rehearsed = self._spread, self.rehearsed(samples)
        whole = self._gradients * spread.gradients
        if spread.gradients_stay or passes > 1 or spread.gradients < 1:
            activations, gradients = rehearsed.activations, whole
        else:
            activations = rehearsed.activations
            gradients = max(0, rehearsed.with_gradients - activations)
            gradients = max(gradients, whole - activations)  # all of them are there when the optimizer works
        per_trained = _MOMENTS + (_FP32 if self._train.optimizer.ema else 0)
        optimizer = per_trained * self.trained * spread.optimizer
        weights = self._stored * spread.parameters
        gathered = self._gathered() if spread.gathers else 0.0
        tensors = weights + optimizer + gradients + activations + gathered
        talk = _TALK if self._ranks > 1 else 0
        return Footprint(
            weights=weights,
            optimizer=optimizer,
            gradients=gradients,
            activations=activations,
            gathered=gathered,
            overhead=_CONTEXT + talk + _LOST * tensors,
        )

    def _gathered(self) -> float:
        """Return two blocks, one on its way, the gradients of one, and all that is no block."""
        size = 2 if self._bf16 else 4
        offered: Any = getattr(self._outline, "shard_units", list)
        blocks = [list(unit.parameters()) for unit in offered()]
        inside = {id(one) for block in blocks for one in block}
        rest = sum(one.numel() for one in self._outline.parameters() if id(one) not in inside)
        largest = max((sum(one.numel() for one in block) for block in blocks), default=0)
        learning = max(
            (sum(one.numel() for one in block if one.requires_grad) for block in blocks), default=0
        )
        return float(size * (2 * largest + rest) + (size + _FP32) * learning)


def largest(room: Room, memory: float, *, most: int, first: int) -> int:
    """Return the most samples at a time that fit into so many bytes, at most ``most``; 0 where none does.

    Memory grows nearly in proportion, so a few rehearsals are enough: a line through what is known gives the
    next guess, and the answer has been rehearsed.

    Args:
        first: the first guess.
    """

    def needs(samples: int) -> float:
        return room.footprint(samples, passes=max(1, most // samples)).total

    if needs(1) > memory:
        return 0
    fits, too_many, guess = 1, most + 1, min(max(first, 2), most)
    while fits + 1 < too_many:
        if needs(guess) <= memory:
            fits = guess
        else:
            too_many = guess
        slope = max((needs(guess) - needs(1)) / (guess - 1), 1.0)
        reached = 1 + int((memory - needs(1)) / slope)
        if reached <= fits:
            break
        guess = min(reached, too_many - 1)
    return fits
