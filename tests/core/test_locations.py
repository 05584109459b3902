"""Folders and URLs by one set of questions; what goes wrong names the URL."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from openvla_toolkit.core import locations
from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile, UserError
from openvla_toolkit.core.locations import LocalFolder, Location, RemotePath, as_location, statuses
from tests.assets.file_server import FileServer, serving

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.bin").write_bytes(CONTENT)
    (tmp_path / "below" / "b.txt").write_text("grün", encoding="utf-8")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[FileServer]:
    with serving(folder) as server:
        yield server


@pytest.fixture
def url(server: FileServer) -> RemotePath:
    return RemotePath(server.url)


def test_a_url_answers_what_a_path_answers(url: RemotePath, folder: Path) -> None:
    for name in ("below", "below/a.bin", "below/none", "none/none"):
        here, there = folder / name, url / name
        assert (there.name, there.parent.name) == (
            here.name,
            here.parent.name if "/" in name else there.parent.name,
        )
        assert there.exists() == here.exists(), name
        assert there.is_dir() == here.is_dir(), name
    assert sorted(entry.name for entry in (url / "below").iterdir()) == ["a.bin", "b.txt"]
    assert (url / "below/a.bin").is_file()
    assert (url / "below" / "b.txt").read_text() == "grün"
    assert (url / "below/a.bin").read_bytes() == CONTENT
    assert (url / "below/a.bin").status().size == len(CONTENT)
    assert list((url / "none").iterdir()) == []


def test_urls_are_values(url: RemotePath) -> None:
    assert url / "below/" == RemotePath(f"{url}/below")
    assert len({url / "a", url / "a", url / "b"}) == 2
    assert pickle.loads(pickle.dumps(url)) == url
    assert url.resolve() == url != str(url)
    assert (
        RemotePath("s3://bucket").parent == RemotePath("s3://bucket/data").parent == RemotePath("s3://bucket")
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_ranges_are_what_slices_are(data: st.DataObject) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/ranges", CONTENT)
    bound = st.integers(0, len(CONTENT))
    ranges = data.draw(
        st.lists(st.tuples(bound, bound).map(lambda pair: (min(pair), max(pair))), max_size=12)
    )
    near, largest = data.draw(st.integers(1, 4000)), data.draw(st.integers(1, 50_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locations, "_NEAR", near)
        patch.setattr(locations, "_LARGEST", largest)
        found = RemotePath("memory://ranges").read_ranges(ranges)
    assert found == [CONTENT[start:end] for start, end in ranges]


def test_neighbours_share_a_request(url: RemotePath, server: FileServer) -> None:
    ranges = [(40, 50), (0, 10), (10, 20)]
    assert (url / "below/a.bin").read_ranges(ranges) == [CONTENT[start:end] for start, end in ranges]
    assert [(method, size) for method, _, size in server.asked] == [("GET", 50)]


def test_a_file_is_copied_in_pieces(url: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_LARGEST", 5000)
    stream = io.BytesIO()
    (url / "below/a.bin").copy_to(stream, size=len(CONTENT))
    assert stream.getvalue() == CONTENT


def test_sizes_and_marks_of_many_files(url: RemotePath, folder: Path, server: FileServer) -> None:
    there, here = (statuses(place / "below", ["a.bin", "b.txt"]) for place in (url, folder))
    assert [one.size for one in there] == [one.size for one in here] == [len(CONTENT), 5]
    assert all(one.changed.startswith("ETag ") for one in there)
    server.marks = False
    assert [one.changed for one in statuses(url / "below", ["a.bin"])] == [""]
    for place in (url, folder):
        with pytest.raises(MissingFile, match=r"below/none\.bin does not exist"):
            statuses(place / "below", ["a.bin", "none.bin"])


def test_memory_lists_sizes_and_times(folder: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/sizes/a", b"123")
    (one,) = statuses(RemotePath("memory://sizes"), ["a"])
    assert one.size == 3
    assert one.changed.startswith("created ")


def test_a_range_past_the_end_is_named() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/short", b"0123456789")
    with pytest.raises(
        DataError, match=r"^memory://short: bytes 5 to 20 were asked for, 5 came: .*truncated"
    ):
        RemotePath("memory://short").read_ranges([(5, 20)])


def test_a_server_that_ignores_ranges_is_named(url: RemotePath, server: FileServer) -> None:
    (url / "below/a.bin").check_ranges()
    server.ranges = False
    with pytest.raises(DataError, match=rf"^{url}/below/a\.bin: its server does not give parts of a file"):
        (url / "below/a.bin").check_ranges()


@pytest.mark.parametrize(("status", "there"), [(404, False), (403, False), (500, None)])
def test_an_answer_that_is_no_file(
    url: RemotePath, server: FileServer, status: int, there: bool | None
) -> None:
    server.status = status
    if there is None:
        with pytest.raises(DataError, match=rf"^{url}/x: it cannot be read: .*500.*your credentials\.$"):
            (url / "x").is_file()
    else:
        assert (url / "x").is_file() is there
        with pytest.raises(FileNotFoundError):
            (url / "x").read_bytes()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        MissingDependency,
        match=r"^reading s3://bucket/x needs s3fs: pip install 'openvla-toolkit\[remote\]'\.$",
    ):
        RemotePath("s3://bucket/x").is_dir()


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(UserError, match=r"^nowhere://x: .*nowhere"):
        RemotePath("nowhere://x").is_dir()


@pytest.mark.parametrize("text", ["https://host/data?token=1", "s3://", "data/set"])
def test_what_is_no_folder_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a URL of a folder"):
        RemotePath(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket/data/", RemotePath("s3://bucket/data")),
        ("file:///data/oxe", Path("/data/oxe")),
        ("/data/oxe", Path("/data/oxe")),
        ("data", Path("data")),
        ("C:/data", Path("C:/data")),
    ],
)
def test_a_setting_is_a_folder_or_a_url(text: str, found: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Location)
    value = adapter.validate_python(text)
    assert value == found
    assert adapter.validate_python(value) == found
    assert adapter.validate_python(adapter.dump_python(value, mode="json")) == found
    assert adapter.json_schema()["type"] == "string"


def test_a_setting_that_is_a_folder_refuses_a_url() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(LocalFolder)
    assert adapter.validate_python("/data") == Path("/data")
    with pytest.raises(ValidationError, match="copy gs://bucket/data to a disk"):
        adapter.validate_python("gs://bucket/data")


def test_other_values_are_left_to_pydantic() -> None:
    assert as_location(7) == 7
    with pytest.raises(ValidationError):
        TypeAdapter(Location).validate_python(7)
