"""Framing and checksums of TFRecord files, and every way in which they can be damaged."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.rlds import tfrecord

RECORDS = [b"first", b"", b"the third one"]
STARTS = [0, 21, 37]
"""Where the headers of the three records lie: 16 bytes of frame around 5, 0 and 13 of data."""


def framed(contents: list[bytes]) -> bytes:
    stream = io.BytesIO()
    for content in contents:
        tfrecord.write_record(stream, content)
    return stream.getvalue()


def shard_of(path: Path, data: bytes) -> tfrecord.Shard:
    path.write_bytes(data)
    return tfrecord.open_shard(path)


def test_masked_crc_is_that_of_the_format() -> None:
    # RFC 3720's check value of crc32c is 0xe3069283; the mask is worked out by hand from it.
    rotated = (0xE3069283 >> 15) | (0xE3069283 << 17) & 0xFFFFFFFF
    assert tfrecord.masked_crc(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


@given(contents=st.lists(st.binary(max_size=300), max_size=8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    data = framed(contents)
    shard = shard_of(tmp_path_factory.mktemp("shard") / "some.tfrecord", data)
    found = list(tfrecord.records(shard))
    assert [bytes(content) for _, content in found] == contents
    assert all(data[offset : offset + len(content)] == content for offset, content in found)


def test_one_record_is_read_by_its_number(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "some.tfrecord", framed(RECORDS))
    assert tfrecord.record_offsets(shard).tolist() == STARTS
    offset, content = tfrecord.record(shard, 2)
    assert (offset, bytes(content)) == (STARTS[2] + 12, b"the third one")


@pytest.mark.parametrize("length", range(1, len(framed(RECORDS))))
def test_a_truncated_file_is_named_with_the_record_and_the_byte(tmp_path: Path, length: int) -> None:
    shard = shard_of(tmp_path / "some.tfrecord", framed(RECORDS)[:length])
    if length in STARTS:
        assert len(tfrecord.record_offsets(shard)) == STARTS.index(length)
        return
    number = max(index for index, start in enumerate(STARTS) if start < length)
    with pytest.raises(DataError, match="truncated") as caught:
        tfrecord.record_offsets(shard)
    assert caught.value.file == shard.path
    assert caught.value.episode == number
    assert f"record at byte {STARTS[number]}" in str(caught.value)


@pytest.mark.parametrize("position", range(len(framed(RECORDS))))
def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path, position: int) -> None:
    data = bytearray(framed(RECORDS))
    data[position] ^= 0x10
    shard = shard_of(tmp_path / "some.tfrecord", bytes(data))
    number = max(index for index, start in enumerate(STARTS) if start <= position)
    with pytest.raises(DataError, match=r"checksum 0x[0-9a-f]{8}, expected 0x[0-9a-f]{8}") as caught:
        list(tfrecord.records(shard))
    assert caught.value.file == shard.path
    assert caught.value.episode == number


def test_data_are_not_checked_when_that_is_not_wanted(tmp_path: Path) -> None:
    data = bytearray(framed(RECORDS))
    data[12] ^= 1
    shard = shard_of(tmp_path / "some.tfrecord", bytes(data))
    assert bytes(tfrecord.record(shard, 0, verify=False)[1]) == b"girst"


def test_an_empty_file_holds_no_record(tmp_path: Path) -> None:
    assert len(tfrecord.record_offsets(shard_of(tmp_path / "some.tfrecord", b""))) == 0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"some\.tfrecord does not exist"):
        tfrecord.open_shard(tmp_path / "some.tfrecord")


def test_a_file_that_vanished_or_shrank_is_named(tmp_path: Path) -> None:
    gone = shard_of(tmp_path / "gone.tfrecord", framed(RECORDS))
    Path(gone.path).unlink()
    with pytest.raises(MissingFile, match="is gone"):
        tfrecord.record(gone, 0)
    shrunk = shard_of(tmp_path / "shrunk.tfrecord", framed(RECORDS))
    os.truncate(shrunk.path, 30)
    with pytest.raises(DataError, match="it has 30 bytes, and had 66"):
        tfrecord.record(shrunk, 0)


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "some.tfrecord"
    assert len(tfrecord.record_offsets(shard_of(path, framed(RECORDS)))) == 3
    path.unlink()
    assert len(tfrecord.record_offsets(shard_of(path, framed(RECORDS[:1])))) == 1
