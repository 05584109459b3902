"""Samples to batches, in this process or in workers; the stream is the same either way."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, get_worker_info

from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.errors import OpenVLAError, TrainingError
from openvla_toolkit.core.worker import end_with_the_run, fork_server
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.pipeline.read_ahead import ReadAhead, reading_ahead
from openvla_toolkit.pipeline.sampler import MixtureSampler
from openvla_toolkit.pipeline.samples import SampleSource
from openvla_toolkit.pipeline.transport import packed, unpacked

__all__ = ["Batch", "accumulated", "batches"]

Batch = Mapping[str, NDArray[np.generic]]


class _Made(NamedTuple):
    """What a worker sends."""

    batch: Mapping[str, Any]
    """As ``pipeline.transport`` packs it where it comes from a worker."""
    skipped: Mapping[str, int]
    """Data set -> samples that could not be read and were replaced."""


class _Numbered(Dataset[Any]):
    """Sample numbers -> one collated batch, with each row's source; lives in the workers."""

    def __init__(
        self,
        sources: Sequence[SampleSource],
        sampler: MixtureSampler,
        processor: Processor,
        ahead: ReadAhead,
    ) -> None:
        self._sources, self._sampler, self._processor, self._ahead = sources, sampler, processor, ahead

    def __getitems__(self, numbers: Sequence[int]) -> _Made | OpenVLAError:
        """Return the batch; an error of the toolkit is returned, since torch would bury it in a traceback."""
        try:
            self._ahead(self._sampler, numbers)
            picks = [self._sampler.pick(number) for number in numbers]
            samples = [
                self._sources[source].sample(position, number=number)
                for number, (source, position) in zip(numbers, picks, strict=True)
            ]
        except OpenVLAError as error:
            return error
        skipped: dict[str, int] = {}
        for sample in samples:
            if sample.skipped:
                skipped[sample.dataset] = skipped.get(sample.dataset, 0) + sample.skipped
        collated = self._processor.collate([self._processor.encode(sample) for sample in samples])
        members = np.array([source for source, _ in picks], dtype=np.int64)
        batch: Mapping[str, Any] = {**collated, "dataset": members}
        if (worker := get_worker_info()) is not None:
            batch = packed(batch, workers=worker.num_workers)
        return _Made(batch, skipped)


def batches(
    sources: Sequence[SampleSource],
    sampler: MixtureSampler,
    processor: Processor,
    numbers: Iterable[list[int]],
    *,
    loader: Loader,
    skipped: Callable[[Mapping[str, int]], None] | None = None,
) -> Generator[Batch, None, None]:
    """Yield one collated batch per list of sample numbers, in order.

    With ``loader.workers`` processes the batches are made ahead; all workers end with the iterator.
    ``skipped`` is told, with the batch and not ahead of it, how many samples of a data set could not be read
    and were replaced.

    Raises:
        DataError: a sample cannot be read.
        StorageError: there is no room for the blocks that are read ahead (``loader.shuffle: blocks``).
        TrainingError: a worker died.
    """
    with reading_ahead(sources, sampler) as (near, ahead):
        yield from _loaded(
            _Numbered(near, sampler, processor, ahead), numbers, loader=loader, skipped=skipped
        )


def _loaded(
    made: _Numbered,
    numbers: Iterable[list[int]],
    *,
    loader: Loader,
    skipped: Callable[[Mapping[str, int]], None] | None,
) -> Generator[Batch, None, None]:
    options: dict[str, Any] = {}
    if loader.workers:
        options = {
            "num_workers": loader.workers,
            "prefetch_factor": loader.prefetch,
            "multiprocessing_context": fork_server(__name__),
            "worker_init_fn": _settle,
        }
    stream: DataLoader[_Made | OpenVLAError] = DataLoader(
        made,
        batch_sampler=numbers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # else it would draw from the one that dropout draws from
        **options,
    )
    try:
        for result in stream:
            if isinstance(result, OpenVLAError):
                raise result
            if result.skipped and skipped is not None:
                skipped(result.skipped)
            yield unpacked(result.batch)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainingError(
            f"{reason}. If memory ran out, lower train.loader.workers or train.loader.prefetch."
        ) from error


def accumulated(stream: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Yield the next ``count`` micro-batches: those of one optimizer step.

    Raises:
        TrainingError: the data ends before.
    """
    for number in range(count):
        batch = next(stream, None)
        if batch is None:
            raise TrainingError(f"the data ended after {number} of the {count} micro-batches of a step.")
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _settle(worker: int) -> None:
    """Use one thread, and leave Ctrl-C and preemption to the main process, which saves before it stops.

    Terminals and schedulers signal all processes of a run at once; a second SIGTERM is obeyed.
    """
    torch.set_num_threads(1)
    end_with_the_run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for preemption in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(preemption, _ignore_once)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
