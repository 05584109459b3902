"""The stream of batches: the same with any number of workers; errors arrive as what they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.errors import DataError, TrainingError
from openvla_toolkit.core.types import Sample
from openvla_toolkit.pipeline.index import EpisodeIndex
from openvla_toolkit.pipeline.loader import Batch, accumulated, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source, micro_batches
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.pipeline.transport import LARGE
from openvla_toolkit.testing import DotsRobotConfig, linear_policy
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

ROBOT = DotsRobotConfig().build()
PROCESSOR = linear_policy(ROBOT).processor


@pytest.fixture
def source(dataset: DotsEpisodes, index: EpisodeIndex) -> EpisodeSource:
    return EpisodeSource(
        dataset,
        index,
        compute_statistics(index, ROBOT),
        robot=ROBOT,
        normalization=Normalization(),
        cameras=("primary",),
        chunk=1,
    )


def stream(source: Any, *, workers: int, start: int = 0, stop: int = 6) -> Iterator[Batch]:
    numbers = micro_batches(start=start, stop=stop, total=4, per_device=2)
    sampler = MixtureSampler([Source(len(source), 1.0)], seed=5)
    return batches([source], sampler, PROCESSOR, numbers, loader=Loader(workers=workers))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(one, other, strict=True)
    )


def test_workers_do_not_change_the_stream(source: EpisodeSource) -> None:
    alone = list(stream(source, workers=0))
    assert [len(batch["features"]) for batch in alone] == [2] * 12
    for workers in (1, 2):
        assert same(list(stream(source, workers=workers)), alone)


def test_the_stream_goes_on_from_any_step(source: EpisodeSource) -> None:
    assert same(list(stream(source, workers=0, start=4)), list(stream(source, workers=0))[8:])


def test_a_step_takes_its_own_batches_and_no_more(source: EpisodeSource) -> None:
    batches_of_run = stream(source, workers=0)
    taken = [list(accumulated(batches_of_run, 2)) for _ in range(6)]
    assert [len(step) for step in taken] == [2] * 6
    assert list(batches_of_run) == []


def test_data_that_ends_within_a_step_is_an_error() -> None:
    batch: Batch = {"x": np.zeros(1)}
    step = accumulated(iter([batch, batch]), 3)
    assert [next(step), next(step)] == [batch, batch]
    with pytest.raises(TrainingError, match=r"the data ended after 2 of the 3 micro-batches of a step"):
        next(step)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_data_is_named_from_a_worker_too(
    workers: int, source: EpisodeSource, dataset: DotsEpisodes
) -> None:
    dataset._pictures[:] = [b"\xff\xd8nothing"] * len(dataset._pictures)
    with pytest.raises(
        DataError, match=r"^memory, episode dots/\d, frame \d, 'observation\.images\.primary': cannot"
    ) as told:
        next(stream(source, workers=workers))
    assert "Traceback" not in str(told.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_replaced_samples_are_counted_with_their_batch(
    workers: int, source: EpisodeSource, dataset: DotsEpisodes
) -> None:
    source._skip = True
    whole = list(stream(source, workers=0))
    damaged = int(source._index.images["primary"][3]["offset"])
    dataset._pictures[damaged] = b""
    told: list[dict[str, int]] = []
    numbers = micro_batches(start=0, stop=6, total=4, per_device=2)
    sampler = MixtureSampler([Source(len(source), 1.0)], seed=5)
    found = batches(
        [source],
        sampler,
        PROCESSOR,
        numbers,
        loader=Loader(workers=workers),
        skipped=lambda one: told.append(dict(one)),
    )
    before = []
    for batch, other in zip(found, whole, strict=True):
        # Told when the batch is taken, not when a worker made it ahead.
        before.append(len(told))
        assert batch.keys() == other.keys()
    drawn = [
        [sampler.pick(number).position for number in range(first, first + 2)] for first in range(0, 24, 2)
    ]
    counts = [positions.count(3) for positions in drawn]
    assert sum(counts) > 0
    assert told == [{"dots": count} for count in counts if count]
    assert before == [sum(count > 0 for count in counts[: place + 1]) for place in range(12)]


class Deadly:
    """A source whose samples end the process that reads them."""

    def __init__(self, here: int) -> None:
        self._here = here

    def __len__(self) -> int:
        return 10

    def sample(self, position: int, *, number: int) -> Sample:
        assert os.getpid() != self._here
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("the process lives on")


def test_a_worker_that_is_killed_is_an_error_with_a_remedy() -> None:
    with pytest.raises(
        TrainingError, match=r"DataLoader worker .*(killed|exited).* lower train\.loader\.workers"
    ):
        next(stream(Deadly(os.getpid()), workers=1))


class Wide:
    """A processor whose batches are large enough to be shared between processes."""

    def encode(self, sample: Any) -> dict[str, Any]:
        return {"wide": np.repeat(sample.actions.reshape(-1), LARGE), "narrow": sample.actions}

    def encode_observation(self, observation: Any) -> dict[str, Any]:
        raise AssertionError("nobody acts here")

    def collate(self, items: Any, *, side: str = "right") -> dict[str, Any]:
        return {key: np.stack([item[key] for item in items]) for key in items[0]}


def test_large_batches_arrive_whole(source: EpisodeSource) -> None:
    sampler = MixtureSampler([Source(len(source), 1.0)], seed=5)
    alone, beside = (
        list(batches([source], sampler, Wide(), [[0, 1], [2, 3]], loader=Loader(workers=workers)))
        for workers in (0, 2)
    )
    assert alone[0]["wide"].nbytes > LARGE
    assert same(beside, alone)
    before = beside[1]["wide"].copy()
    beside[0]["wide"].fill(0)  # what arrives is the reader's own
    np.testing.assert_array_equal(beside[1]["wide"], before)


class Signalled:
    """A source whose samples send Ctrl-C and SIGTERM to the process that reads them, once."""

    def __init__(self, source: EpisodeSource, mark: Path) -> None:
        self._source, self._mark = source, mark

    def __len__(self) -> int:
        return len(self._source)

    def sample(self, position: int, *, number: int) -> Sample:
        if not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        return self._source.sample(position, number=number)


def test_workers_leave_signals_to_the_main_process(source: EpisodeSource, tmp_path: Path) -> None:
    mark = tmp_path / "signalled"
    assert same(list(stream(Signalled(source, mark), workers=1)), list(stream(source, workers=0)))
    assert mark.exists()
