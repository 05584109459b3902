"""Samples to batches, in this process or in workers; the stream is the same either way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from openvla_toolkit.core.sections import Loader
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.pipeline.sampler import MixtureSampler
from openvla_toolkit.pipeline.samples import SampleSource

__all__ = ["Batch", "accumulated", "batches"]

Batch = Mapping[str, NDArray[np.generic]]


class _Numbered(Dataset[dict[str, NDArray[np.generic]]]):
    """Sample number -> encoded sample; lives in the workers."""

    def __init__(self, sources: Sequence[SampleSource], sampler: MixtureSampler, processor: Processor) -> None:
        self._sources, self._sampler, self._processor = sources, sampler, processor

    def __getitem__(self, number: int) -> dict[str, NDArray[np.generic]]:
        source, position = self._sampler.pick(number)
        return self._processor.encode(self._sources[source][position])


def batches(
    sources: Sequence[SampleSource],
    sampler: MixtureSampler,
    processor: Processor,
    numbers: Iterable[list[int]],
    *,
    loader: Loader,
) -> Iterator[Batch]:
    """Yield one collated batch per list of sample numbers, in order.

    With ``loader.workers`` processes the batches are made ahead; a worker that dies or raises is an error
    here, and all workers end with the iterator.
    """
    options: dict[str, Any] = {}
    if loader.workers:
        options = {
            "num_workers": loader.workers,
            "prefetch_factor": loader.prefetch,
            "multiprocessing_context": "forkserver",
            "worker_init_fn": _one_thread,
        }
    stream: DataLoader[Batch] = DataLoader(
        _Numbered(sources, sampler, processor),
        batch_sampler=numbers,  # type: ignore[arg-type]  # any iterable of lists of numbers serves
        collate_fn=processor.collate,
        **options,
    )
    yield from stream


def accumulated(stream: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Yield the next ``count`` micro-batches: those of one optimizer step."""
    return islice(stream, count)


def _one_thread(worker: int) -> None:  # noqa: ARG001 - torch's signature
    torch.set_num_threads(1)
