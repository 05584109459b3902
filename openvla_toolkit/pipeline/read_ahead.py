"""Reading ahead: the pictures of a batch at once, and with ``shuffle: blocks`` whole blocks.

Every block is read once per run and machine. Pictures that come from afar are kept in files of this
machine's temporary folder, where all workers of the run find them: those of the present window, and more and
more of the next. So at most ``2 x window + 2`` blocks of each such data set lie on the disk at a time,
whatever the number of workers; the memory of no process holds them, only the system's page cache. Of local
files the system is asked to read what will be needed. A picture that is not at hand is read where it lies:
nothing here changes the stream.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, StorageError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.storage import storage_errors
from openvla_toolkit.core.types import DataDescription, EncodedImage, Episode
from openvla_toolkit.interfaces.dataset import Dataset, ReadsAhead
from openvla_toolkit.pipeline.orders import BlockOrder
from openvla_toolkit.pipeline.sampler import MixtureSampler
from openvla_toolkit.pipeline.samples import EpisodeSource, SampleSource

__all__ = ["NearImages", "ReadAhead", "reading_ahead"]

_RUN = "run-"


class NearImages:
    """A data set some images of which are at hand; the others are read where they lie.

    Copies in other processes share the folder of blocks and take from it what one of them has read.
    """

    def __init__(self, dataset: Dataset[Episode], folder: Path, *, window: int) -> None:
        assert isinstance(dataset, ReadsAhead)
        self._dataset, self._folder = dataset, folder
        self._limit = 2 * window + 2
        self._held: dict[bytes, bytes] = {}
        self._blocks: OrderedDict[int, _Block | None] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": {}, "_blocks": OrderedDict()}

    def hold(self, addresses: NDArray[Any]) -> None:
        """Read the images at these addresses together and hold them; let go of those that were held."""
        images = self._read(addresses)
        keys = (address.tobytes() for address in addresses)
        self._held = {} if images is None else dict(zip(keys, images, strict=True))

    def has(self, block: int) -> bool:
        """Have a block at hand if it was read already, by whatever process."""
        if block not in self._blocks and (path := self._place(block)).exists():
            self._remember(block, _opened(path))
        return block in self._blocks

    def fetch(self, block: int, addresses: Callable[[], NDArray[Any]]) -> None:
        """Have a block at hand: read the images at ``addresses()``, unless another process does so just now.

        Raises:
            StorageError: the temporary folder is full.
        """
        path = self._place(block)
        lock = self._folder / f"{block % self._limit}.lock"  # as many as blocks: they stay until the run ends
        with storage_errors(path):
            lock.touch()
        with locked(lock, wait=True):
            if not path.exists():
                wanted = addresses()
                if (images := self._read(wanted)) is not None:
                    _write(path, wanted, images)
            self._remember(block, _opened(path) if path.exists() else None)
        self._make_room()

    def describe(self) -> DataDescription:
        """Return the description of the data set."""
        return self._dataset.describe()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> Episode:
        return self._dataset[position]

    def image(self, address: np.void) -> EncodedImage:
        """Return an image, at hand or from afar."""
        if (held := self._held.get(address.tobytes())) is not None:
            return held
        place = int(address["file"]), int(address["offset"])
        for block in self._blocks.values():
            if block is None or not block.first <= place <= block.last:
                continue
            if len(found := np.flatnonzero(block.addresses == address)):
                start = int(block.starts[found[0]])
                return bytes(block.content[start : start + int(address["length"])])
        return self._dataset.image(address)

    def _read(self, addresses: NDArray[Any]) -> Sequence[bytes] | None:
        """Return images read together; None where the system keeps them, or where one cannot be read.

        The picture that is at fault is named when it is asked for by itself.
        """
        assert isinstance(self._dataset, ReadsAhead)
        try:
            return self._dataset.ahead(addresses) if len(addresses) else None
        except DataError:
            return None

    def _place(self, block: int) -> Path:
        return self._folder / f"{block:09d}"

    def _remember(self, block: int, content: _Block | None) -> None:
        self._blocks[block] = content
        if len(self._blocks) > self._limit:
            self._blocks.popitem(last=False)

    def _make_room(self) -> None:
        """Remove the oldest blocks; who still has one open keeps it until it is through with it."""
        blocks = [path for path in self._folder.iterdir() if not path.suffix]
        for path in sorted(blocks, key=_age)[: -self._limit]:
            path.unlink(missing_ok=True)


class _Block(NamedTuple):
    """One block at hand."""

    addresses: NDArray[Any]
    starts: NDArray[np.int64]
    """Where each image begins in ``content``."""
    content: memoryview
    first: tuple[int, int]
    last: tuple[int, int]
    """No image of the block lies before ``first`` or behind ``last`` (file, offset)."""


def _write(path: Path, addresses: NDArray[Any], images: Sequence[bytes]) -> None:
    partial_path = path.with_suffix(f".{os.getpid()}")
    with storage_errors(path):
        with partial_path.open("wb") as stream:
            np.save(stream, addresses)
            stream.writelines(images)
        partial_path.rename(path)


def _opened(path: Path) -> _Block | None:
    """Map a block; None if another process has removed it meanwhile."""
    try:
        with path.open("rb") as stream:
            addresses = np.load(stream)
            start = stream.tell()
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        return None
    places = sorted(zip(addresses["file"].tolist(), addresses["offset"].tolist(), strict=True))
    starts = start + np.cumsum(addresses["length"], dtype=np.int64) - addresses["length"]
    return _Block(addresses, starts, content, places[0], places[-1])


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another process was faster
        return 0


class ReadAhead:
    """Has at hand what samples need, before they are made; lives in the workers."""

    def __init__(self, near: Sequence[NearImages | None], sources: Sequence[SampleSource]) -> None:
        self._near, self._sources = near, sources

    def __call__(self, sampler: MixtureSampler, numbers: Sequence[int]) -> None:
        """Read the pictures of a batch, its blocks, and what comes due of the next window.

        When a run begins, none of its window is at hand: one block is read per batch, so that the first
        batches need not wait for all, and pictures of other blocks are read by themselves.

        Raises:
            StorageError: the temporary folder is full.
        """
        alone: dict[int, list[int]] = {
            number: [] for number, near in enumerate(self._near) if near is not None
        }
        patience = 1
        for number in numbers:
            member, position = sampler.pick(number)
            near, order = self._near[member], sampler.orders[member]
            if near is None:
                continue
            if not isinstance(order, BlockOrder):
                alone[member].append(position)
                continue
            if not near.has(due := order.due(sampler.visit(number))):
                near.fetch(due, partial(self._addresses, member, order.samples(due)))
            if not near.has(block := position // order.block):
                if patience == 0:
                    alone[member].append(position)
                    continue
                patience -= 1
                near.fetch(block, partial(self._addresses, member, order.samples(block)))
        for member, positions in alone.items():
            if (held := self._near[member]) is not None:
                held.hold(self._addresses(member, positions))

    def _addresses(self, member: int, positions: Sequence[int]) -> NDArray[Any]:
        source = self._sources[member]
        assert isinstance(source, EpisodeSource)
        return source.addresses(positions)


@contextmanager
def reading_ahead(
    sources: Sequence[SampleSource], sampler: MixtureSampler
) -> Iterator[tuple[Sequence[SampleSource], ReadAhead]]:
    """Give the sources, their pictures read ahead where the data set can do it.

    Raises:
        StorageError: the temporary folder cannot be written.
    """
    near: list[NearImages | None] = []
    given: list[SampleSource] = []
    with ExitStack() as held:
        folder = held.enter_context(_folder()) if any(map(_reads_blocks, sources, sampler.orders)) else Path()
        for number, (source, order) in enumerate(zip(sources, sampler.orders, strict=True)):
            images = None
            if isinstance(source, EpisodeSource) and isinstance(source.dataset, ReadsAhead):
                place, window = folder / str(number), 0
                if isinstance(order, BlockOrder):
                    place.mkdir()
                    window = order.window
                images = NearImages(source.dataset, place, window=window)
                source = source.reading(images)
            near.append(images)
            given.append(source)
        yield given, ReadAhead(near, given)


def _reads_blocks(source: SampleSource, order: object) -> bool:
    able = isinstance(source, EpisodeSource) and isinstance(source.dataset, ReadsAhead)
    return able and isinstance(order, BlockOrder)


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder for this run; it goes with the run, or with the next one if this one is killed."""
    parent = _parent()
    with storage_errors(parent):
        parent.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as held:
        with locked(parent, wait=True):
            for other in parent.glob(f"{_RUN}*"):
                _remove_abandoned(other)
            with storage_errors(parent):
                folder = Path(tempfile.mkdtemp(prefix=_RUN, dir=parent))
            held.enter_context(locked(folder))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _parent() -> Path:
    return Path(tempfile.gettempdir()) / f"openvla-blocks-{os.getuid()}"


def _remove_abandoned(folder: Path) -> None:
    with suppress(StorageError):  # its run may be removing it just now
        with locked(folder) as abandoned:
            if abandoned:
                shutil.rmtree(folder, ignore_errors=True)
