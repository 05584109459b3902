"""Sums over the micro-batches and ranks of one optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openvla_toolkit.core.processes import gathered

if TYPE_CHECKING:
    from torch import Tensor

    from openvla_toolkit.interfaces.action_head import LossReport

__all__ = ["StepTotals"]

_TOTAL = ""
"""The key of the loss itself; metrics have names."""


class StepTotals:
    """Collects loss reports; nothing is fetched from a device before the step's last micro-batch."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, report: LossReport) -> None:
        """Count one micro-batch."""
        pairs = {_TOTAL: (report.total.detach(), report.count), **report.metrics}
        for name, pair in pairs.items():
            self._parts.setdefault(name, []).append(pair)

    def close(self) -> None:
        """Sum up, over all ranks: to be called by all of them, before anything is asked."""
        for rank in gathered(self._fetched()):
            for name, (value, weight) in rank.items():
                before = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (before[0] + value, before[1] + weight)

    @property
    def count(self) -> float:
        """Items that the loss runs over, in all ranks."""
        return self._sums.get(_TOTAL, (0.0, 0.0))[1]

    @property
    def loss(self) -> float:
        """Mean loss of an item."""
        total, count = self._sums[_TOTAL]
        return total / count

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the whole step, of what had any weight."""
        return {name: value / weight for name, (value, weight) in self._sums.items() if name and weight}

    def _fetched(self) -> dict[str, tuple[float, float]]:
        import torch

        if not self._parts:
            return {}
        device = self._parts[_TOTAL][0][0].device
        flat = [one.double().to(device) for pairs in self._parts.values() for pair in pairs for one in pair]
        numbers = iter(torch.stack(flat).tolist())  # one transfer for all
        fetched: dict[str, tuple[float, float]] = {}
        for name, pairs in self._parts.items():
            value = weight = 0.0
            for _ in pairs:
                value, weight = value + next(numbers), weight + next(numbers)
            fetched[name] = (value, weight)
        return fetched
