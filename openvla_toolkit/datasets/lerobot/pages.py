"""Where pictures lie in a Parquet file, so that one is read without the rest of its row group.

That can be told of columns that are neither compressed nor encoded, as our writer leaves JPEG and PNG
files: a page is then a header, the levels of null values, and every value behind its length. Format:
Apache Parquet's ``parquet.thrift``, its headers in Thrift's compact protocol.
"""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError

__all__ = ["PictureBytes", "picture_bytes", "read_bytes"]

PAGE_TYPE, PAGE_SIZE, DATA_PAGE_HEADER = 1, 3, 5
"""Fields of a ``PageHeader``."""
VALUES, ENCODING = 1, 2
"""Fields of a ``DataPageHeader``."""
DATA_PAGE, PLAIN = 0, 0
TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 1, 2, 3, 7, 8, 12
"""Types of the compact protocol; those between are integers."""


class PictureBytes(NamedTuple):
    """The bytes of every row's picture in a file."""

    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint32]


def picture_bytes(path: Path, feature: str) -> PictureBytes | None:
    """Return where the pictures of a column lie, or None where only Parquet's reader can tell."""
    try:
        state = path.stat()
    except OSError:
        return None  # whoever reads the rows says what is wrong with the file
    return _picture_bytes(path, feature, (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=64)
def _picture_bytes(path: Path, feature: str, state: tuple[int, int]) -> PictureBytes | None:
    """``state`` makes that a file which changed is looked at again."""
    found: list[tuple[int, int]] = []
    try:
        with pq.ParquetFile(path) as file, path.open("rb") as stream:
            metadata = file.metadata
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for number in range(metadata.num_row_groups):
                    group = metadata.row_group(number)
                    values = _values(data, group, f"{feature}.bytes")
                    if values is None or len(values) != group.num_rows:
                        return None
                    found += values
    except (pa.ArrowException, OSError, ValueError, IndexError):
        return None
    array = np.array(found, dtype=np.uint64).reshape(-1, 2)
    return PictureBytes(array[:, 0], array[:, 1].astype(np.uint32)) if array[:, 1].all() else None


def read_bytes(path: Path, offset: int, length: int) -> bytes:
    """Return the bytes of one picture.

    Raises:
        DataError: the file ends before.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    if len(data) != length:
        raise DataError(
            f"a picture at bytes {offset} to {offset + length} lies past the end of the file; "
            "build the index anew.",
            file=path,
        )
    return data


def _values(data: mmap.mmap, group: Any, name: str) -> list[tuple[int, int]] | None:
    """Return offset and length of every value of a column's chunk."""
    columns = (group.column(number) for number in range(group.num_columns))
    chunk = next((column for column in columns if column.path_in_schema == name), None)
    if chunk is None or chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        return None
    if chunk.statistics is None or chunk.statistics.null_count != 0:
        return None
    found: list[tuple[int, int]] = []
    position = chunk.data_page_offset
    while len(found) < chunk.num_values:
        page, start = _struct(data, position)
        header = page.get(DATA_PAGE_HEADER)
        if page[PAGE_TYPE] != DATA_PAGE or header is None or header[ENCODING] != PLAIN:
            return None
        position = start + page[PAGE_SIZE]
        value = start + 4 + _length(data, start)  # no value is null: the levels are stepped over
        for _ in range(header[VALUES]):
            length = _length(data, value)
            found.append((value + 4, length))
            value += 4 + length
        if value != position:
            return None
    return found


def _length(data: mmap.mmap, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "little")


def _struct(data: mmap.mmap, position: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a Thrift struct by number, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[position]:
        position += 1
        if head >> 4:
            number += head >> 4
        else:
            number, position = _integer(data, position)
        fields[number], position = _value(data, position, head & 15)
    return fields, position + 1


def _value(data: mmap.mmap, position: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, position
    if kind == BYTE:
        return data[position], position + 1
    if kind < DOUBLE:
        return _integer(data, position)
    if kind == BINARY:
        length, position = _varint(data, position)
        return data[position : position + length], position + length
    if kind == STRUCT:
        return _struct(data, position)
    raise ValueError(f"no page header has a field of the type {kind}")


def _integer(data: mmap.mmap, position: int) -> tuple[int, int]:
    number, position = _varint(data, position)
    return (number >> 1) ^ -(number & 1), position


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
