"""TFRecord shards: framing, checksums, and random access through a memory map.

A record is ``uint64 length | uint32 masked crc32c of the length | data | uint32 masked crc32c of the data``,
little-endian, one after the other with nothing between (format of ``tensorflow/core/lib/io/record_writer``).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingFile

__all__ = ["Shard", "masked_crc", "open_shard", "record", "record_offsets", "records", "write_record"]

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
MAPS_KEPT = 256
"""Shards kept open per process: well below the usual limit of 1024 open files."""


class Shard(NamedTuple):
    """One file as it was when the data set was opened. Caches are keyed by it."""

    path: str
    size: int
    modified: int
    """Nanoseconds since the epoch."""


def open_shard(path: Path) -> Shard:
    """Note a shard's size and age.

    Raises:
        MissingFile: the file does not exist.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MissingFile(
            f"{path} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    return Shard(str(path), status.st_size, status.st_mtime_ns)


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


@lru_cache(maxsize=MAPS_KEPT)
def mapped(shard: Shard) -> memoryview:
    """Map a whole shard into memory, read-only; the map is shared by all data sets of the process."""
    if shard.size == 0:
        return memoryview(b"")
    try:
        with Path(shard.path).open("rb") as stream:
            view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise MissingFile(f"{shard.path} is gone since the data set was opened.") from None
    if len(view) != shard.size:
        raise DataError(
            f"it has {len(view)} bytes, and had {shard.size} when the data set was opened; open it again.",
            file=shard.path,
        )
    return view


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
