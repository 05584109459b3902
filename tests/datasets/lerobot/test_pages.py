"""Pictures that lie plainly in a Parquet file are found, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.datasets.lerobot.pages import picture_bytes, read_bytes

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PLAIN: dict[str, Any] = {"compression": "none", "use_dictionary": False}


def write(path: Path, pictures: list[bytes | None], **how: Any) -> Path:
    rows = [{"bytes": picture, "path": None} for picture in pictures]
    table = pa.table({"number": range(len(rows)), "image": pa.array(rows, type=PICTURE)})
    pq.write_table(table, path, row_group_size=4, **{**PLAIN, **how})
    return path


@settings(max_examples=25, deadline=None)
@given(pictures=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=30))
def test_every_picture_is_found(pictures: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("pages") / "a.parquet", list(pictures), data_page_size=100)
    found = picture_bytes(path, "image")
    assert found is not None
    places = zip(found.offsets.tolist(), found.lengths.tolist(), strict=True)
    assert [read_bytes(path, offset, length) for offset, length in places] == pictures


@pytest.mark.parametrize(
    ("pictures", "how"),
    [
        pytest.param([b"a", b"b"], {"compression": "snappy"}, id="compressed"),
        pytest.param([b"a", b"b"], {"use_dictionary": True}, id="dictionary"),
        pytest.param([b"a", b"b"], {"data_page_version": "2.0"}, id="pages of another version"),
        pytest.param([b"a", b"b"], {"write_statistics": False}, id="no count of nulls"),
        pytest.param([b"a", None], {}, id="a null"),
        pytest.param([b"a", b""], {}, id="an empty one"),
    ],
)
def test_others_are_left_to_the_reader_of_rows(
    tmp_path: Path, pictures: list[bytes | None], how: dict[str, Any]
) -> None:
    assert picture_bytes(write(tmp_path / "a.parquet", pictures, **how), "image") is None


def test_a_file_that_is_written_anew_is_looked_at_again(tmp_path: Path) -> None:
    first = picture_bytes(write(tmp_path / "a.parquet", [b"abc"]), "image")
    second = picture_bytes(write(tmp_path / "a.parquet", [b"defgh", b"i"]), "image")
    assert first is not None
    assert second is not None
    assert (first.lengths.tolist(), second.lengths.tolist()) == ([3], [5, 1])


def test_what_is_no_parquet_file_or_no_picture_has_no_places(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    assert picture_bytes(tmp_path / "text", "image") is None
    assert picture_bytes(tmp_path / "absent", "image") is None
    assert picture_bytes(write(tmp_path / "a.parquet", [b"a"]), "depth") is None


def test_bytes_past_the_end_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [b"a"])
    with pytest.raises(DataError, match=r"bytes 9999 to 10002 lies past the end.*build the index anew"):
        read_bytes(path, 9999, 3)


def test_our_writer_leaves_pictures_so_and_numbers_compressed(forms: dict[str, Path]) -> None:
    path = next(forms["v3.0 image"].glob("data/*/*.parquet"))
    assert picture_bytes(path, "observation.images.primary") is not None
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    kinds = {column.path_in_schema: column.compression for column in columns}
    pictures = {name for name, kind in kinds.items() if kind == "UNCOMPRESSED"}
    assert all(name.startswith("observation.images.") for name in pictures)
    assert {"action.list.element", "task_index"} <= kinds.keys() - pictures
