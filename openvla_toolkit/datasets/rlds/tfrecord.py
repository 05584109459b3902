"""TFRecord shards: framing, checksums, and random access.

Records are read through a memory map, single pictures with one system call each: the pages of a map count as
memory of the process, and pictures drawn from everywhere would map the whole data set.

A shard behind a URL is read through by copying it to a nameless temporary file first; single pictures of it
are read from where it lies (``RLDSDataset.image``).

A record is ``uint64 length | uint32 masked crc32c of the length | data | uint32 masked crc32c of the data``,
little-endian, one after the other with nothing between (format of ``tensorflow/core/lib/io/record_writer``).
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.core.locations import RemotePath, as_location, statuses
from openvla_toolkit.core.storage import storage_errors

__all__ = [
    "Shard",
    "masked_crc",
    "open_shard",
    "open_shards",
    "read_ranges",
    "record",
    "record_offsets",
    "records",
    "will_need",
    "write_record",
]

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
MAPS_KEPT = 8
"""Shards that a process keeps mapped."""
FILES_KEPT = 256
"""Shards that a process keeps open: well below the usual limit of 1024 open files."""
COPIES_KEPT = 2
"""Remote shards of which a process keeps a temporary copy while it reads records."""


class Shard(NamedTuple):
    """One file as it was when the data set was opened. Caches are keyed by it."""

    path: str
    size: int
    changed: str
    """Nanoseconds since the epoch, or what a server tells of the file's content."""

    @property
    def remote(self) -> RemotePath | None:
        """The URL, or None for a file of this machine."""
        place = as_location(self.path)
        return place if isinstance(place, RemotePath) else None


def open_shard(path: Path | RemotePath) -> Shard:
    """Note a shard's size and age; raises as ``open_shards``."""
    return open_shards(path.parent, [path.name])[0]


def open_shards(folder: Path | RemotePath, names: Sequence[str]) -> list[Shard]:
    """Note size and age of shards of one folder.

    Raises:
        MissingFile: a file does not exist.
        DataError: a server cannot be reached; names the URL.
    """
    found = statuses(folder, names)
    return [Shard(str(folder / name), *status) for name, status in zip(names, found, strict=True)]


def masked_crc(data: bytes | memoryview) -> int:
    """Return the checksum that TFRecord stores: crc32c, rotated right by 15 and offset by a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(stream: BinaryIO, data: bytes) -> None:
    """Append one record."""
    length = struct.pack("<Q", len(data))
    stream.write(length + FOOTER.pack(masked_crc(length)))
    stream.write(data)
    stream.write(FOOTER.pack(masked_crc(data)))


def mapped(shard: Shard) -> memoryview:
    """Map a whole shard into memory, read-only; the map is shared by all data sets of the process."""
    if shard.size == 0:
        return memoryview(b"")
    return _mapped_copy(shard) if "://" in shard.path else _mapped_file(shard)


@lru_cache(maxsize=MAPS_KEPT)
def _mapped_file(shard: Shard) -> memoryview:
    return memoryview(mmap.mmap(_opened(shard).number, 0, access=mmap.ACCESS_READ))


@lru_cache(maxsize=COPIES_KEPT)
def _mapped_copy(shard: Shard) -> memoryview:
    """Copy a remote shard to a file without a name, which vanishes with its map, and map it."""
    remote = shard.remote
    assert remote is not None
    with storage_errors(Path(tempfile.gettempdir()) / remote.name), tempfile.TemporaryFile() as stream:
        try:
            remote.copy_to(stream, size=shard.size)
        except FileNotFoundError:
            raise MissingFile(
                f"{remote} is gone, or may not be read, since the data set was opened."
            ) from None
        stream.flush()
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


class _OpenFile:
    """A file that is open as long as this lives."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@lru_cache(maxsize=FILES_KEPT)
def _opened(shard: Shard) -> _OpenFile:
    try:
        file = _OpenFile(os.open(shard.path, os.O_RDONLY))
    except FileNotFoundError:
        raise MissingFile(f"{shard.path} is gone since the data set was opened.") from None
    size = os.fstat(file.number).st_size
    if size != shard.size:
        raise DataError(
            f"it has {size} bytes, and had {shard.size} when the data set was opened; open it again.",
            file=shard.path,
        )
    return file


def read_ranges(shard: Shard, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the bytes of a shard from each start up to its end, without mapping or copying the shard.

    Raises:
        MissingFile: the file is gone since the data set was opened.
        DataError: it is another now, it ends sooner, or its server does not give ranges.
    """
    if (remote := shard.remote) is None:
        file = _opened(shard).number
        return [os.pread(file, end - start, start) for start, end in ranges]
    try:
        return remote.read_ranges(ranges)
    except FileNotFoundError:
        raise MissingFile(f"{remote} is gone, or may not be read, since the data set was opened.") from None


def will_need(shard: Shard, start: int, end: int) -> None:
    """Ask the system to read a part of a local shard ahead of its use."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(_opened(shard).number, start, end - start, os.POSIX_FADV_WILLNEED)


@cache
def record_offsets(shard: Shard) -> NDArray[np.int64]:
    """Return the byte offset of every record's header, [records], from one scan that reads headers only.

    Raises:
        DataError: a record is cut short or its length does not match its checksum.
    """
    view, position = mapped(shard), 0
    offsets: list[int] = []
    while position < shard.size:
        length = _length(shard, view, position, number=len(offsets))
        offsets.append(position)
        position += HEADER.size + length + FOOTER.size
    return np.array(offsets, dtype=np.int64)


def record(shard: Shard, number: int, *, verify: bool = True) -> tuple[int, memoryview]:
    """Return offset in the file and data of one record; the data are a view of the mapped file.

    Raises:
        DataError: the record is cut short, or its data do not match their checksum (only with ``verify``).
        IndexError: past the last record.
    """
    position = int(record_offsets(shard)[number])
    view = mapped(shard)
    start = position + HEADER.size
    end = start + _length(shard, view, position, number=number)
    data = view[start:end]
    if verify:
        (expected,) = FOOTER.unpack_from(view, end)
        found = masked_crc(data)
        if found != expected:
            raise DataError(
                f"the {len(data)} bytes of data at byte {start} have the checksum {found:#010x}, "
                f"expected {expected:#010x}: the file is corrupt; copy or download it again.",
                file=shard.path,
                episode=number,
            )
    return start, data


def records(shard: Shard, *, verify: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Yield offset and data of every record, in order; raises as ``record``."""
    for number in range(len(record_offsets(shard))):
        yield record(shard, number, verify=verify)


def _length(shard: Shard, view: memoryview, position: int, *, number: int) -> int:
    """Read one header and check it against its checksum and the end of the file."""
    left = shard.size - position
    if left < HEADER.size:
        raise _truncated(shard, number, position, f"expected a header of {HEADER.size} bytes, found {left}")
    length, expected = HEADER.unpack_from(view, position)
    found = masked_crc(view[position : position + 8])
    if found != expected:
        raise DataError(
            f"the length at byte {position} has the checksum {found:#010x}, expected {expected:#010x}: "
            "the file is corrupt or not a TFRecord; copy or download it again.",
            file=shard.path,
            episode=number,
        )
    if left < HEADER.size + length + FOOTER.size:
        raise _truncated(
            shard,
            number,
            position,
            f"expected {length} bytes of data and {FOOTER.size} of checksum, "
            f"found {left - HEADER.size} bytes",
        )
    return int(length)


def _truncated(shard: Shard, number: int, position: int, what: str) -> DataError:
    return DataError(
        f"the file ends inside the record at byte {position}: {what}; the file is truncated: "
        "copy or download it again.",
        file=shard.path,
        episode=number,
    )
