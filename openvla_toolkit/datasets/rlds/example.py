"""``tf.train.Example``: its protobuf wire format read and written by hand.

Written by hand for one reason: a parser library returns copies of the images, this one returns where in the
file they lie. The format (``tensorflow/core/example/example.proto``) is small: an Example holds one map from
key to Feature, a Feature holds one list of bytes, of floats or of 64-bit integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BytesColumn", "Column", "WireError", "parse_example", "serialize_example"]

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not an Example; the message says where, counted from the start of the record's data."""


@dataclass(frozen=True, slots=True)
class BytesColumn:
    """A list of byte strings, left where they are."""

    data: memoryview
    """The whole Example."""
    offsets: NDArray[np.int64]
    """[N] first byte of each, counted from the start of the Example."""
    lengths: NDArray[np.int64]
    """[N] bytes in each."""

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, position: int) -> bytes:
        start = int(self.offsets[position])
        return bytes(self.data[start : start + int(self.lengths[position])])


Column: TypeAlias = "BytesColumn | NDArray[np.float32] | NDArray[np.int64]"
"""The value of one key: bytes, floats or integers, always a flat list."""


def parse_example(data: bytes | memoryview) -> dict[str, Column]:
    """Return every key of an Example with its flat list of values.

    Packed and unpacked numbers are read, unknown fields are skipped, a key given twice takes its last value
    (as protobuf has it for maps). A feature without a list is an empty list of bytes.

    Raises:
        WireError: the bytes are not an Example.
    """
    view = memoryview(data)
    columns: dict[str, Column] = {}
    for field, wire, start, end in _fields(view, 0, len(view)):
        if field != 1 or wire != DELIMITED:
            continue
        for entry_field, entry_wire, entry_start, entry_end in _fields(view, start, end):
            if entry_field == 1 and entry_wire == DELIMITED:
                key, column = _parse_entry(view, entry_start, entry_end)
                columns[key] = column
    return columns


def serialize_example(
    columns: Mapping[str, Sequence[bytes] | NDArray[np.float32] | NDArray[np.int64]],
) -> bytes:
    """Write an Example: float arrays as float lists, integer arrays as int64 lists, others as lists of bytes.

    Keys are sorted, so that equal content gives equal bytes.
    """
    entries = b"".join(
        _delimited(1, _delimited(1, key.encode()) + _delimited(2, _serialize_feature(columns[key])))
        for key in sorted(columns)
    )
    return _delimited(1, entries)


def _parse_entry(view: memoryview, start: int, end: int) -> tuple[str, Column]:
    """Read one entry of the map: field 1 is the key, field 2 the Feature."""
    key, feature = "", (start, start)
    for field, wire, value_start, value_end in _fields(view, start, end):
        if field == 1 and wire == DELIMITED:
            try:
                key = str(view[value_start:value_end], "utf-8")
            except UnicodeDecodeError:
                raise WireError(f"the key at byte {value_start} is not UTF-8") from None
        elif field == 2 and wire == DELIMITED:
            feature = (value_start, value_end)
    return key, _parse_feature(view, *feature)


def _parse_feature(view: memoryview, start: int, end: int) -> Column:
    """Read a Feature: field 1 bytes, 2 floats, 3 integers; the last kind given wins, as in a oneof."""
    kind, spans = 1, list[tuple[int, int]]()
    for field, wire, value_start, value_end in _fields(view, start, end):
        if field in (1, 2, 3) and wire == DELIMITED:
            if field != kind:
                kind, spans = field, []
            spans.append((value_start, value_end))
    values = [item for span in spans for item in _fields(view, *span) if item[0] == 1]
    if kind == 1:
        return _bytes_column(view, values)
    return _floats(view, values) if kind == 2 else _integers(view, values)


def _bytes_column(view: memoryview, values: list[tuple[int, int, int, int]]) -> BytesColumn:
    spans = np.array([(start, end) for _, wire, start, end in values if wire == DELIMITED], dtype=np.int64)
    spans = spans.reshape(-1, 2)
    return BytesColumn(view, spans[:, 0], spans[:, 1] - spans[:, 0])


def _floats(view: memoryview, values: list[tuple[int, int, int, int]]) -> NDArray[np.float32]:
    parts = []
    for _, wire, start, end in values:
        if wire not in (DELIMITED, FIXED32) or (end - start) % 4:
            raise WireError(f"the floats at byte {start} are not a multiple of 4 bytes")
        parts.append(np.frombuffer(view[start:end], dtype="<f4"))
    return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.empty(0, np.float32)


def _integers(view: memoryview, values: list[tuple[int, int, int, int]]) -> NDArray[np.int64]:
    parts = [_varints(view, start, end) for _, wire, start, end in values if wire in (DELIMITED, VARINT)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _varints(view: memoryview, start: int, end: int) -> NDArray[np.int64]:
    """Decode packed varints, seven bits per byte, least significant first, all at once."""
    raw = np.frombuffer(view[start:end], dtype=np.uint8)
    last = raw < 0x80
    if last.all():
        return raw.astype(np.int64)
    stops = np.flatnonzero(last) + 1
    if not last[-1] or np.diff(stops, prepend=0).max() > 10:
        raise WireError(f"the integers at byte {start} do not end where they should")
    starts = np.concatenate([[0], stops[:-1]])
    shift = (np.arange(len(raw)) - np.repeat(starts, stops - starts)).astype(np.uint64) * np.uint64(7)
    return np.add.reduceat((raw & 0x7F).astype(np.uint64) << shift, starts).view(np.int64)


def _fields(view: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield field number, wire type, first and past-the-last byte of each field's value."""
    while position < end:
        tag, start = view[position], position + 1
        if tag > 0x7F:
            tag, start = _varint(view, position, end)
        wire = tag & 7
        if wire == DELIMITED:
            length, start = _varint(view, start, end)
        elif wire == VARINT:
            length = _varint(view, start, end)[1] - start
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise WireError(f"the field at byte {position} has the unknown wire type {wire}")
        if start + length > end:
            raise WireError(f"the field at byte {position} needs {length} bytes, {end - start} are left")
        yield tag >> 3, wire, start, start + length
        position = start + length


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position and the position after it."""
    if position < end and view[position] < 0x80:  # nearly always
        return view[position], position + 1
    value = shift = 0
    while position < end and shift < 70:
        byte = view[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError(f"the number before byte {position} has no end")


def _serialize_feature(values: Sequence[bytes] | NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    if not isinstance(values, np.ndarray):
        return _delimited(1, b"".join(_delimited(1, value) for value in values))
    if np.issubdtype(values.dtype, np.floating):
        return _delimited(2, _delimited(1, values.astype("<f4").tobytes()) if values.size else b"")
    return _delimited(3, _delimited(1, _pack_varints(values)) if values.size else b"")


def _pack_varints(values: NDArray[Any]) -> bytes:
    flat = values.astype(np.int64).reshape(-1)
    if flat.size and int(flat.min()) >= 0 and int(flat.max()) < 0x80:
        return flat.astype(np.uint8).tobytes()
    return b"".join(_pack_varint(value & 0xFFFFFFFFFFFFFFFF) for value in flat.tolist())


def _pack_varint(value: int) -> bytes:
    packed = bytearray()
    while value > 0x7F:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def _delimited(field: int, value: bytes) -> bytes:
    return struct.pack("B", field << 3 | DELIMITED) + _pack_varint(len(value)) + value
