"""The wire format of tf.train.Example."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.datasets.rlds.example import BytesColumn, WireError, parse_example, serialize_example

COLUMNS = st.dictionaries(
    st.text(max_size=20),
    st.one_of(
        st.lists(st.binary(max_size=200), max_size=6),
        hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)),
        hnp.arrays(np.int64, st.integers(0, 40)),
    ),
    max_size=6,
)


def field(number: int, wire: int, value: bytes) -> bytes:
    """One field with a length prefix where the wire type has one; all lengths here are below 128."""
    return bytes([number << 3 | wire]) + (bytes([len(value)]) if wire == 2 else b"") + value


def example(key: bytes, feature: bytes) -> bytes:
    return field(1, 2, field(1, 2, field(1, 2, key) + field(2, 2, feature)))


@given(columns=COLUMNS)
def test_what_is_serialized_is_parsed(columns: dict[str, list[bytes] | np.ndarray]) -> None:
    data = serialize_example(columns)
    parsed = parse_example(data)
    assert set(parsed) == set(columns)
    for key, values in columns.items():
        found = parsed[key]
        if isinstance(values, list):
            assert isinstance(found, BytesColumn)
            assert [found[position] for position in range(len(found))] == values
            for offset, value in zip(found.offsets, values, strict=True):
                assert data[offset : offset + len(value)] == value
        else:
            assert not isinstance(found, BytesColumn)
            assert found.dtype == values.dtype
            assert found.tobytes() == values.tobytes()


@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_raise_the_one_error(data: bytes) -> None:
    with suppress(WireError):
        parse_example(data)


@given(columns=COLUMNS, place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_raises_at_most_the_one_error(
    columns: dict[str, list[bytes]], place: float, flip: int
) -> None:
    data = bytearray(serialize_example(columns))
    if data:
        data[int(place * len(data))] ^= flip
    with suppress(WireError):
        parse_example(bytes(data))


def test_the_bytes_are_those_of_protobuf() -> None:
    columns = {
        "n": np.array([-1, 300, 0], np.int64),
        "b": np.array([1.5, -2], np.float32),
        "a": [b"xyz"],
    }
    # As `tf.train.Example.SerializeToString(deterministic=True)` of TensorFlow 2.21 writes them.
    assert serialize_example(columns).hex() == (
        "0a390a0c0a016112070a050a0378797a0a110a0162120c120a0a080000c03f000000c0"
        "0a160a016e12111a0f0a0dffffffffffffffffff01ac0200"
    )


def test_unpacked_numbers_are_read() -> None:
    floats = field(2, 2, field(1, 5, np.float32(1.5).tobytes()) + field(1, 5, np.float32(-2).tobytes()))
    assert parse_example(example(b"f", floats))["f"].tolist() == [1.5, -2.0]
    integers = field(3, 2, field(1, 0, b"\x05") + field(1, 0, b"\xac\x02") + field(1, 2, b"\x07\x08"))
    assert parse_example(example(b"i", integers))["i"].tolist() == [5, 300, 7, 8]


def test_unknown_fields_are_skipped() -> None:
    extra = field(9, 0, b"\x96\x01") + field(10, 2, b"abc") + field(11, 1, bytes(8)) + field(12, 5, bytes(4))
    inner = field(1, 2, b"k") + extra + field(2, 2, field(1, 2, field(1, 2, b"v")) + extra)
    column = parse_example(extra + field(1, 2, extra + field(1, 2, inner)))["k"]
    assert isinstance(column, BytesColumn)
    assert column[0] == b"v"


def test_a_key_given_twice_takes_its_last_value() -> None:
    twice = example(b"k", field(1, 2, field(1, 2, b"old"))) + example(b"k", field(1, 2, field(1, 2, b"new")))
    assert parse_example(twice)["k"][0] == b"new"


def test_a_feature_without_a_list_is_empty() -> None:
    assert len(parse_example(example(b"k", b""))["k"]) == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05abc", "needs 5 bytes, 3 are left"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x0a" + b"\xff" * 11, "has no end"),
        (b"\x0a\xff", "has no end"),
        (example(b"\xff", b""), "not UTF-8"),
        (example(b"f", field(2, 2, field(1, 2, b"abc"))), "not a multiple of 4"),
        (example(b"i", field(3, 2, field(1, 2, b"\x80"))), "do not end where they should"),
        (example(b"i", field(3, 2, field(1, 2, b"\x80" * 11 + b"\x01"))), "do not end where they should"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_example(data)
