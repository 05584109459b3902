"""The memory model of training: what of it lies on a device, and how much."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from openvla_toolkit.stages.planning.rehearsal import Part, Rehearsals, Rehearsed, stored_bytes

if TYPE_CHECKING:
    from torch import nn

    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.core.sections import Train
    from openvla_toolkit.interfaces.engine import EngineConfig, Spread

__all__ = ["GB", "Footprint", "Kept", "Room", "in_one_machine", "kept", "largest", "spread_of"]

GB = 10**9
"""Bytes: the one unit in which memory is told."""
_CONTEXT = 0.6 * GB
"""What CUDA takes on a device before the first tensor."""
_TALK = 0.5 * GB
"""What NCCL takes besides, where there are several devices."""
_LOST = 0.04
"""Share of what tensors take that the allocator loses between them."""
_FP32, _MOMENTS = 4, 8
_IN_ONE_MACHINE = 8
"""Devices of a machine, where no launcher says."""


def in_one_machine(recipe: Recipe, ranks: int) -> int:
    """Return how many of the ranks are in one machine: as the launcher says, else eight at most."""
    launcher: Any = recipe.launcher
    if launcher is not None and launcher.processes == ranks:
        return int(getattr(launcher, "nproc", ranks))
    return min(ranks, _IN_ONE_MACHINE)


def spread_of(recipe: Recipe, ranks: int) -> Spread:
    """Return what of a recipe's training lies on each of so many devices."""
    engine = cast("EngineConfig", cast("Any", recipe.train).engine)
    return engine.spread(ranks, local=in_one_machine(recipe, ranks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes in one place that a training takes whatever passes through it."""

    weights: float
    optimizer: float
    gradients: float
    """All of them, which need not be there at one time."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.optimizer + self.gradients


def kept(module: nn.Module, train: Train, share: Spread) -> Kept:
    """Return what the training of a module keeps where such a share of it lies."""
    parameters = list(module.parameters())
    trained = [one for one in parameters if one.requires_grad]
    per_trained = _MOMENTS + (_FP32 if train.optimizer.ema else 0)
    return Kept(
        weights=sum(map(stored_bytes, parameters)) * share.parameters,
        optimizer=per_trained * sum(one.numel() for one in trained) * share.optimizer,
        gradients=sum(map(stored_bytes, trained)) * share.gradients,
    )


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
    """Blocks fetched from other devices, their gradients on the way there, and room kept for the way."""
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
        self._spread, self._ranks = spread, ranks
        self._bf16 = getattr(engine, "precision", "fp32") == "bf16"
        self._twice = bool(getattr(engine, "activation_checkpointing", False))
        self._part = Part(samples=1, text=text, learned=learned, pictures=pictures)
        parameters = list(self._outline.parameters())
        self.parameters = sum(one.numel() for one in parameters)
        self.trained = sum(one.numel() for one in parameters if one.requires_grad)
        self.read: float = sum(one.numel() * one.element_size() for one in parameters)
        """Bytes in the memory of the CPU that a process reads the policy into, before any device has it."""
        self._kept = kept(self._outline, train, spread)
        away = spread.offloaded
        self.offloaded = 0.0 if away is None else kept(self._outline, train, away).total
        """Bytes in the memory of the CPU for each device."""

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
        spread, rehearsed, keeps = self._spread, self.rehearsed(samples), self._kept
        activations, gradients = rehearsed.activations, keeps.gradients
        in_turn, staying = self._gathered() if spread.gathers else (0.0, 0.0)
        gathered = in_turn + staying + spread.buffers
        if passes > 1 and spread.gradients_beside:
            gradients *= 2
        elif passes == 1 and not spread.gradients_stay:
            # Of a share f: max(A + fG) = max((1 - f)A + f(A + G)) <= (1 - f) max A + f max(A + G). They come
            # while the blocks that stayed go; all are there for the optimizer, when nothing else is.
            coming = spread.gradients * (rehearsed.with_gradients - activations) - staying
            gradients = max(coming, gradients - activations - gathered, 0.0)
        tensors = keeps.weights + keeps.optimizer + gradients + activations + gathered
        talk = _TALK if self._ranks > 1 else 0
        return Footprint(
            weights=keeps.weights,
            optimizer=keeps.optimizer,
            gradients=gradients,
            activations=activations,
            gathered=gathered,
            overhead=_CONTEXT + talk + _LOST * tensors,
        )

    def _gathered(self) -> tuple[float, float]:
        """Return what is fetched in turn, and what stays of it from the forward to the backward pass.

        In turn: two blocks, one on its way, the gradients of one, and all that is no block.
        """
        size = 2 if self._bf16 else 4
        offered: Any = getattr(self._outline, "shard_units", list)
        blocks = [list(unit.parameters()) for unit in offered()]
        inside = {id(one) for block in blocks for one in block}
        rest = sum(one.numel() for one in self._outline.parameters() if id(one) not in inside)
        sizes = [sum(one.numel() for one in block) for block in blocks]
        in_turn = min(2 * max(sizes, default=0), sum(sizes))
        staying = max(0.0, min(self._spread.stays, sum(sizes)) - in_turn)
        learning = max(
            (sum(one.numel() for one in block if one.requires_grad) for block in blocks), default=0
        )
        return float(size * (in_turn + rest) + (size + _FP32) * learning), size * staying


def largest(room: Room, memory: float, *, share: int, first: int) -> int:
    """Return the most samples at a time that fit into so many bytes; 0 where none does.

    What is answered divides ``share``. All of it in one pass is asked for by itself: several passes hold all
    gradients, and one pass, where an engine lets go of them, fewer. Among several passes memory grows with
    the samples, nearly in proportion, so a few rehearsals are enough: a line through what is known gives the
    next guess, and the answer has been rehearsed.

    Args:
        share: samples of a step on one device.
        first: a divisor of it: the first guess.
    """

    def needs(samples: int) -> float:
        return room.footprint(samples, passes=share // samples).total

    if needs(share) <= memory:
        return share
    several = [one for one in range(1, share // 2 + 1) if share % one == 0]
    if not several or needs(1) > memory:
        return 0
    fits, too_many = 0, len(several)  # positions
    guess = several.index(first) if first in several else len(several) - 1
    while fits + 1 < too_many:
        guess = min(max(guess, fits + 1), too_many - 1)
        samples = several[guess]
        if needs(samples) <= memory:
            fits = guess
        else:
            too_many = guess
        slope = max((needs(samples) - needs(1)) / (samples - 1), 1.0)
        reached = 1 + (memory - needs(1)) / slope
        guess = sum(one <= reached for one in several) - 1
    return several[fits]
