"""What is told about a step beyond its loss: by action dimension and by data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.engine import LossFunction

if TYPE_CHECKING:
    from torch import Tensor, nn

    from openvla_toolkit.interfaces.policy import Policy
    from openvla_toolkit.stages.prepare import Prepared

__all__ = ["DATASET", "Measured", "measured"]

DATASET = "dataset"
"""The key under which a batch says which member of the mixture each row comes from."""


class Measured:
    """A loss function whose metrics also stand under ``l1.<dimension>`` and ``l1/<data set>``.

    Data sets are told apart where there are several, dimensions for the distance alone: an accuracy of one of
    seven ids says little.
    """

    def __init__(self, loss: LossFunction, *, datasets: Sequence[str], dimensions: Sequence[str]) -> None:
        self._loss = loss
        self._datasets = datasets if len(datasets) > 1 else ()
        self._dimensions = dimensions

    def __call__(self, module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Return the policy's report with the metrics split."""
        report = self._loss(module, batch)
        metrics = dict(report.metrics)
        for name, (value, count) in report.details.items():
            pair = (value.float(), count.float())
            if name == "l1":
                metrics.update(self._by_dimension(name, pair))
            metrics.update(self._by_dataset(name, pair, batch[DATASET]))
        return report._replace(metrics=metrics)

    def _by_dimension(
        self, name: str, tables: tuple[Tensor, Tensor]
    ) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        """Sum tables [B, H x A] up to one pair for each of A dimensions."""
        if not tables[0].shape[1]:  # rows of conversations alone
            return
        sums, counts = (table.view(-1, len(self._dimensions)).sum(dim=0).unbind() for table in tables)
        for dimension, value, count in zip(self._dimensions, sums, counts, strict=True):
            yield f"{name}.{dimension}", (value, count)

    def _by_dataset(
        self, name: str, tables: tuple[Tensor, Tensor], members: Tensor
    ) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        """Sum tables [B, H x A] up to one pair for each data set."""
        if not self._datasets:
            return
        rows = [table.sum(dim=1) for table in tables]
        sums, counts = (row.new_zeros(len(self._datasets)).index_add_(0, members, row) for row in rows)
        for dataset, value, count in zip(self._datasets, sums.unbind(), counts.unbind(), strict=True):
            yield f"{name}/{dataset}", (value, count)


def measured(policy: Policy, prepared: Sequence[Prepared]) -> Measured:
    """Return a policy's loss over batches of these data sets."""
    dimensions = [dimension.name for dimension in policy.contract.robot.action]
    return Measured(policy.loss, datasets=[item.name for item in prepared], dimensions=dimensions)
