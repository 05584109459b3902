"""Samples to batches, in this process or in workers; the stream is the same either way."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from openvla_toolkit.core.errors import DataError, TrainingError
from openvla_toolkit.core.sections import Loader
from openvla_toolkit.core.worker import end_with_the_run
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.pipeline.sampler import MixtureSampler
from openvla_toolkit.pipeline.samples import SampleSource

__all__ = ["Batch", "accumulated", "batches"]

Batch = Mapping[str, NDArray[np.generic]]


class _Numbered(Dataset[Any]):
    """Sample numbers -> one collated batch; lives in the workers."""

    def __init__(
        self, sources: Sequence[SampleSource], sampler: MixtureSampler, processor: Processor
    ) -> None:
        self._sources, self._sampler, self._processor = sources, sampler, processor

    def __getitems__(self, numbers: Sequence[int]) -> Batch | DataError:
        """Return the batch; an error of the data is returned, since torch would bury it in a traceback."""
        try:
            picks = [self._sampler.pick(number) for number in numbers]
            samples = [self._sources[source][position] for source, position in picks]
        except DataError as error:
            return error
        return self._processor.collate([self._processor.encode(sample) for sample in samples])


def batches(
    sources: Sequence[SampleSource],
    sampler: MixtureSampler,
    processor: Processor,
    numbers: Iterable[list[int]],
    *,
    loader: Loader,
) -> Generator[Batch, None, None]:
    """Yield one collated batch per list of sample numbers, in order.

    With ``loader.workers`` processes the batches are made ahead; all workers end with the iterator.

    Raises:
        DataError: a sample cannot be read.
        TrainingError: a worker died.
    """
    options: dict[str, Any] = {}
    if loader.workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__])  # torch is imported once for all workers
        options = {
            "num_workers": loader.workers,
            "prefetch_factor": loader.prefetch,
            "multiprocessing_context": context,
            "worker_init_fn": _settle,
        }
    stream: DataLoader[Batch | DataError] = DataLoader(
        _Numbered(sources, sampler, processor),
        batch_sampler=numbers,
        collate_fn=_as_it_is,
        **options,
    )
    try:
        for batch in stream:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainingError(
            f"{reason}. If memory ran out, lower train.loader.workers or train.loader.prefetch."
        ) from error


def accumulated(stream: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Yield the next ``count`` micro-batches: those of one optimizer step."""
    return islice(stream, count)


def _as_it_is(batch: Any) -> Any:
    return batch


def _settle(worker: int) -> None:
    """Use one thread, and leave Ctrl-C and SIGTERM to the main process, which saves before it stops.

    Terminals and schedulers signal all processes of a run at once; a second SIGTERM is obeyed.
    """
    torch.set_num_threads(1)
    end_with_the_run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
