"""Samples to batches, in this process or in workers; the stream is the same either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.errors import OpenVLAError, TrainingError
from openvla_toolkit.core.worker import fork_server
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.pipeline.read_ahead import ReadAhead, reading_ahead
from openvla_toolkit.pipeline.sampler import MixtureSampler
from openvla_toolkit.pipeline.samples import SampleSource
from openvla_toolkit.pipeline.transport import Made, Workers

__all__ = ["Batch", "accumulated", "batches"]

Batch = Mapping[str, NDArray[np.generic]]


class _Numbered:
    """Sample numbers -> one collated batch, with each row's source; lives in the workers."""

    def __init__(
        self,
        sources: Sequence[SampleSource],
        sampler: MixtureSampler,
        processor: Processor,
        ahead: ReadAhead,
    ) -> None:
        self._sources, self._sampler, self._processor, self._ahead = sources, sampler, processor, ahead

    def __call__(self, numbers: Sequence[int]) -> Made | OpenVLAError:
        """Return the batch, or the toolkit's own error: what else is raised arrives as a traceback."""
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
        return Made({**collated, "dataset": members}, skipped)


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
        made = _Numbered(near, sampler, processor, ahead)
        yield from _loaded(made, numbers, loader=loader, skipped=skipped)


def _loaded(
    made: _Numbered,
    numbers: Iterable[list[int]],
    *,
    loader: Loader,
    skipped: Callable[[Mapping[str, int]], None] | None,
) -> Generator[Batch, None, None]:
    results = _ahead(made, numbers, loader) if loader.workers else (made(order) for order in numbers)
    with closing(results):
        for result in results:
            if isinstance(result, OpenVLAError):
                raise result
            if result.skipped and skipped is not None:
                skipped(result.skipped)
            yield result.batch


def _ahead(
    made: _Numbered, numbers: Iterable[list[int]], loader: Loader
) -> Generator[Made | OpenVLAError, None, None]:
    """Yield results in the order of the numbers; workers take turns."""
    orders = iter(numbers)
    with closing(Workers(made, count=loader.workers, context=fork_server(__name__))) as workers:
        under_way: deque[int] = deque()
        turns = cycle(range(loader.workers))
        for order in islice(orders, loader.workers * loader.prefetch):
            workers.order(worker := next(turns), order)
            under_way.append(worker)
        while under_way:
            result = workers.result(worker := under_way.popleft())
            if (further := next(orders, None)) is not None:
                workers.order(worker, further)
                under_way.append(worker)
            yield result


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
