"""Means over the steps between two lines of metrics, over all ranks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from openvla_toolkit.core.processes import gathered
from openvla_toolkit.interfaces.engine import StepReport
from openvla_toolkit.pipeline.loader import Batch
from openvla_toolkit.stages.training.measures import DATASET
from openvla_toolkit.stages.training.throughput import Machine, peak_memory

__all__ = ["Meter"]

_SKIPPED = "skipped/"


class Meter:
    """Collects step reports; its state is saved with checkpoints, so that resumed curves are the same."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine
        self.datasets: set[int] = set()
        """Members of the mixture that this rank's part of the last step came from."""
        self._forget()

    def _forget(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._told: dict[str, float] = {}
        self._samples, self._seconds = 0, 0.0
        self._waited, self._tokens = 0.0, 0  # of this rank alone

    def waiting(self, stream: Iterable[Batch]) -> Iterator[Batch]:
        """Pass the batches of a step through; count the time spent waiting for them, and their tokens."""
        self.datasets = set()
        iterator = iter(stream)
        while True:
            began = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            self._tokens += int(np.sum(batch.get("attention_mask", 0)))
            self.datasets |= set(batch[DATASET].tolist())
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
        """Return the means since the last flush, and how fast it went; all ranks take part.

        Where every update was left out there are no means to tell.

        ``tokens_per_second`` are those of the text, padding not counted; ``data_wait`` is the share of time
        spent waiting for data, a mean over the ranks; ``peak_memory_gb`` the most of any rank. Samples that
        were replaced are no mean but their number, under ``skipped/<data set>``.
        """
        told = self._means()
        figures = dict(told)
        machine = self._machine
        peak = 0.0 if machine is None else peak_memory(machine.device)
        skipped = {name: count for name, count in told.items() if name.startswith(_SKIPPED)}
        shares = gathered((self._waited, self._tokens, peak, skipped))
        waits, tokens, peaks, skips = zip(*shares, strict=True)
        for name in set().union(*skips):
            figures[name] = sum(counts.get(name, 0) for counts in skips)
        if self._seconds:
            figures["samples_per_second"] = rate = self._samples / self._seconds
            figures["data_wait"] = sum(waits) / len(waits) / self._seconds
            if any(tokens):
                figures["tokens_per_second"] = sum(tokens) / self._seconds
            if machine is not None:
                figures["peak_memory_gb"] = max(peaks) / 1e9
                if machine.utilisation is not None:
                    figures["mfu"] = rate * machine.utilisation / len(peaks)
        self._forget()
        self._told = told
        return figures

    @property
    def figures(self) -> dict[str, float]:
        """The means since the last flush; right after one, those that it told."""
        return self._means() if self._values else dict(self._told)

    def _means(self) -> dict[str, float]:
        """Return the means since the last flush; nothing where no update was made."""
        means = {
            name: sum(values) / (1 if name.startswith(_SKIPPED) else len(values))
            for name, values in self._values.items()
        }
        return means | {name: self._values[name][-1] for name in ("lr",) if name in self._values}

    def state(self) -> dict[str, Any]:
        """Return the figures not yet flushed; times are left out, they belong to the process."""
        return {name: list(values) for name, values in self._values.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up figures that were not yet flushed."""
        self._values = {name: list(values) for name, values in state.items()}
