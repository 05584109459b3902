"""Pictures are read together and blocks once per run, within the bound; nothing changes in the stream."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.errors import DataError, StorageError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.pipeline import read_ahead as module
from openvla_toolkit.pipeline.index import EpisodeIndex
from openvla_toolkit.pipeline.loader import Batch, batches
from openvla_toolkit.pipeline.read_ahead import NearImages, reading_ahead
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source, micro_batches
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsEpisodesConfig, DotsRobotConfig, linear_policy
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

ROBOT = DotsRobotConfig().build()
PROCESSOR = linear_policy(ROBOT).processor
BLOCK, WINDOW = 4, 2
BLOCKS = {"name": "blocks", "block": BLOCK, "window": WINDOW}
EPISODES = DotsEpisodesConfig(episodes=40)


class FarEpisodes(DotsEpisodes):
    """Episodes behind a slow line; every picture that crosses it is noted, in whatever process."""

    def __init__(self, log: Path, *, near: bool = False) -> None:
        super().__init__(EPISODES)
        self.log, self.near = log, near
        log.touch()

    def image(self, address: np.void) -> bytes:
        self.note("single", [int(address["offset"])])
        return super().image(address)

    def ahead(self, addresses: NDArray[Any]) -> list[bytes] | None:
        self.note("together", addresses["offset"].tolist())
        return None if self.near else [super(FarEpisodes, self).image(one) for one in addresses]

    def note(self, how: str, numbers: list[int]) -> None:
        with self.log.open("a") as stream:
            stream.write(f"{how} {' '.join(map(str, numbers))}\n")

    def requests(self, how: str) -> list[list[int]]:
        """Return the numbers of the pictures that crossed the line, request by request."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [list(map(int, numbers)) for kind, *numbers in lines if kind == how]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of runs."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(module, "_parent", lambda: place / "blocks")
    return place


@pytest.fixture
def dataset() -> DotsEpisodes:
    """The same episodes at hand."""
    return EPISODES.build()


@pytest.fixture
def far(tmp_path: Path) -> FarEpisodes:
    return FarEpisodes(tmp_path / "log")


def source(dataset: DotsEpisodes, index: EpisodeIndex) -> EpisodeSource:
    return EpisodeSource(
        dataset, index, compute_statistics(index, ROBOT), robot=ROBOT, normalization=Normalization(),
        cameras=("primary",), chunk=1,
    )  # fmt: skip


def stream(source: EpisodeSource, *, workers: int, steps: int = 30, shuffle: Any = None) -> Iterator[Batch]:
    loader = Loader.model_validate({"workers": workers, "shuffle": shuffle or BLOCKS})
    sampler = MixtureSampler([Source(len(source), 1.0)], seed=5, shuffle=loader.shuffle)
    numbers = micro_batches(start=0, stop=steps, total=4, per_device=4)
    return batches([source], sampler, PROCESSOR, numbers, loader=loader)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a
    )


@pytest.mark.parametrize("shuffle", [BLOCKS, "global"], ids=["blocks", "global"])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_is_that_of_the_plain_data_set(
    far: FarEpisodes, dataset: DotsEpisodes, index: EpisodeIndex, workers: int, shuffle: Any, folder: Path
) -> None:
    expected = list(stream(source(dataset, index), workers=0, shuffle=shuffle))
    assert same(list(stream(source(far, index), workers=workers, shuffle=shuffle)), expected)
    assert far.requests("single") == []
    assert list(folder.rglob("run-*")) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_block_crosses_the_line_once_for_all_workers(
    far: FarEpisodes, index: EpisodeIndex, workers: int
) -> None:
    # A worker may be some batches behind the others: windows are larger than that.
    shuffle = {"name": "blocks", "block": BLOCK, "window": 8}
    list(stream(source(far, index), workers=workers, steps=index.frames // 4, shuffle=shuffle))
    offsets = index.images["primary"]["offset"].tolist()
    blocks = [offsets[first : first + BLOCK] for first in range(0, len(offsets), BLOCK)]
    requests = far.requests("together")
    twice = [block for block in blocks if requests.count(block) > 1]
    assert {number for numbers in requests for number in numbers} == set(offsets), "of the policy's camera"
    assert sum(block in requests for block in blocks) >= len(blocks) - 8, "the first window may come singly"
    assert len(twice) <= 8, "the first window of the next epoch has come due as well"
    assert far.requests("single") == []


def test_the_first_batch_waits_for_one_block_of_the_window(far: FarEpisodes, index: EpisodeIndex) -> None:
    shuffle = {"name": "blocks", "block": BLOCK, "window": 100}
    began = stream(source(far, index), workers=0, shuffle=shuffle)
    next(began)
    requests = far.requests("together")
    assert [len(numbers) for numbers in requests].count(BLOCK) <= 2, "its own, and the first that comes due"
    assert sum(map(len, requests)) < 4 * BLOCK
    rest = list(began)
    later = far.requests("together")[len(requests) :]
    assert [len(one) for one in later[: len(rest) // 2]].count(BLOCK) > 0
    assert far.requests("single") == []


def test_a_batch_of_a_global_shuffle_is_one_request(
    far: FarEpisodes, index: EpisodeIndex, folder: Path
) -> None:
    list(stream(source(far, index), workers=0, steps=3, shuffle="global"))
    assert [len(numbers) for numbers in far.requests("together")] == [4, 4, 4]
    assert far.requests("single") == []
    assert list(folder.iterdir()) == []


def test_the_disk_holds_no_more_than_the_bound(far: FarEpisodes, index: EpisodeIndex, folder: Path) -> None:
    largest = int(index.images["primary"]["length"].max())
    bound = (2 * WINDOW + 2) * (BLOCK * (largest + 16) + 256)  # 16 bytes of address, a header per block
    held = []
    for _ in stream(source(far, index), workers=0, steps=40):
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        held.append(sum(path.stat().st_size for path in files))
    assert max(held) <= bound
    assert index.frames * largest > 2 * bound, "the whole would not fit"


def test_another_process_takes_what_is_there(far: FarEpisodes, index: EpisodeIndex, tmp_path: Path) -> None:
    (place := tmp_path / "store").mkdir()
    addresses = index.images["primary"][:5]
    one, two = (NearImages(far, place, window=2) for _ in range(2))
    assert not one.has(0)
    one.fetch(0, lambda: addresses)
    two.fetch(0, lambda: addresses)
    for near in (one, two, pickle.loads(pickle.dumps(one))):
        assert near.has(0)
        assert [near.image(address) for address in addresses] == [
            DotsEpisodes.image(far, address) for address in addresses
        ]
    assert far.requests("together") == [addresses["offset"].tolist()]
    assert far.requests("single") == []


def test_what_is_not_at_hand_is_read_where_it_lies(
    far: FarEpisodes, index: EpisodeIndex, tmp_path: Path
) -> None:
    (place := tmp_path / "store").mkdir()
    near, addresses = NearImages(far, place, window=2), index.images["primary"]
    near.fetch(1, lambda: addresses[4:8])
    near.hold(addresses[8:10])
    near.hold(addresses[10:11])
    for number in (3, 8, 10):
        assert near.image(addresses[number]) == DotsEpisodes.image(far, addresses[number])
    assert far.requests("single") == [[int(addresses[number]["offset"])] for number in (3, 8)]
    assert (len(near), near.describe(), near[2]) == (len(far), far.describe(), far[2])


@pytest.mark.parametrize("shuffle", [BLOCKS, "global"], ids=["blocks", "global"])
def test_what_cannot_be_read_together_is_read_picture_by_picture(
    far: FarEpisodes, index: EpisodeIndex, monkeypatch: pytest.MonkeyPatch, shuffle: Any
) -> None:
    def fail(self: FarEpisodes, addresses: NDArray[Any]) -> list[bytes]:
        raise DataError("the line is cut.")

    monkeypatch.setattr(FarEpisodes, "ahead", fail)
    list(stream(source(far, index), workers=0, steps=2, shuffle=shuffle))
    assert len(far.requests("single")) == 8


def test_the_system_keeps_what_is_local(tmp_path: Path, index: EpisodeIndex, folder: Path) -> None:
    near = FarEpisodes(tmp_path / "log", near=True)
    for _ in stream(source(near, index), workers=0, steps=6):
        assert not [path for path in folder.rglob("0*") if path.is_file() and not path.suffix]
    told = {number for numbers in near.requests("together") for number in numbers}
    assert {number for (number,) in near.requests("single")} <= told, "the system was told before"


def test_the_locks_of_blocks_do_not_add_up(far: FarEpisodes, index: EpisodeIndex, folder: Path) -> None:
    near = NearImages(far, folder, window=1)
    for block in range(20):
        near.fetch(block, lambda: index.images["primary"][:2])
    assert len(list(folder.glob("*.lock"))) == 4
    assert len([path for path in folder.iterdir() if not path.suffix]) == 4


def test_a_full_disk_is_named(far: FarEpisodes, index: EpisodeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(StorageError, match=r"no space left while writing .*blocks/run-"):
        next(stream(source(far, index), workers=0))


def test_what_a_killed_run_left_goes_with_the_next(
    far: FarEpisodes, index: EpisodeIndex, folder: Path
) -> None:
    sampler = MixtureSampler([Source(index.frames, 1.0)], seed=0, shuffle=Loader(shuffle=BLOCKS).shuffle)
    with reading_ahead([source(far, index)], sampler):
        (alive,) = folder.glob("*/run-*")
    (left := alive.parent / "run-left").mkdir()
    (left / "000000001").touch()
    (held := alive.parent / "run-held").mkdir()
    with locked(held), reading_ahead([source(far, index)], sampler):
        assert not left.exists()
        assert held.exists()
    assert list(alive.parent.iterdir()) == [held]
