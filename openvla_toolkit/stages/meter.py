"""Means over the steps between two lines of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from openvla_toolkit.interfaces.engine import StepReport
from openvla_toolkit.pipeline.loader import Batch

__all__ = ["Meter"]

_SKIPPED = "skipped/"


class Meter:
    """Collects step reports; its state is saved with checkpoints, so that resumed curves are the same."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0

    def waiting(self, stream: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches through and count the time spent waiting for them."""
        iterator = iter(stream)
        while True:
            began = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def add(self, report: StepReport, *, lr: float, samples: int, seconds: float) -> None:
        """Count one optimizer step."""
        figures = {"loss": report.loss, "grad_norm": report.grad_norm, "lr": lr, **report.metrics}
        for name, value in figures.items():
            self._values.setdefault(name, []).append(value)
        self._samples += samples
        self._seconds += seconds

    def skip(self, counts: Mapping[str, int]) -> None:
        """Count samples that could not be read and were replaced, by data set."""
        for dataset, count in counts.items():
            self._values.setdefault(_SKIPPED + dataset, []).append(count)

    def flush(self) -> dict[str, float]:
        """Return the means since the last flush, samples per second and the share of time spent waiting.

        Samples that were replaced are no mean but their number, under ``skipped/<data set>``.
        """
        figures = {
            name: sum(values) / (1 if name.startswith(_SKIPPED) else len(values))
            for name, values in self._values.items()
        }
        figures["lr"] = self._values["lr"][-1]
        if self._seconds:
            figures["samples_per_second"] = self._samples / self._seconds
            figures["data_wait"] = self._waited / self._seconds
        self.__init__()  # type: ignore[misc]  # begin anew
        return figures

    def state(self) -> dict[str, Any]:
        """Return the figures not yet flushed; times are left out, they belong to the process."""
        return self._values

    def restore(self, state: dict[str, Any]) -> None:
        """Take up figures that were not yet flushed."""
        self._values = {name: list(values) for name, values in state.items()}
