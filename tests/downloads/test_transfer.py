from __future__ import annotations

from pathlib import Path

import pytest

from openvla_toolkit.core.errors import DownloadError
from openvla_toolkit.downloads.bucket import Bucket
from openvla_toolkit.downloads.folder import Folder
from openvla_toolkit.downloads.sources import RemoteFile, Source
from openvla_toolkit.downloads.transfer import fetch, held
from openvla_toolkit.downloads.website import Website
from tests.downloads.host import Host

CONTENT = bytes(range(256)) * 40
PATH = "/box/set/1.0.0/shard"


@pytest.fixture
def shard(host: Host) -> tuple[Source, RemoteFile]:
    host.files[PATH] = CONTENT
    source = Bucket(host.address, bucket="box", prefix="")
    (file,) = source.files("set/1.0.0", ["shard"])
    return source, file


def test_a_file_arrives_whole_and_leaves_no_part(shard: tuple[Source, RemoteFile], tmp_path: Path) -> None:
    fetch(*shard, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shard"]
    assert (tmp_path / "new" / "shard").read_bytes() == CONTENT


def test_a_dropped_connection_goes_on_where_it_broke(
    host: Host, shard: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    host.faults[PATH] = ["drop", "busy", "drop"]
    fetch(*shard, tmp_path)
    assert (tmp_path / "shard").read_bytes() == CONTENT
    half, rest = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert [place for _, place in host.asked] == [None, f"bytes={half}-", f"bytes={half}-", f"bytes={rest}-"]


def test_what_an_earlier_download_left_is_not_fetched_again(
    host: Host, shard: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    (tmp_path / "shard.part").write_bytes(CONTENT[:1000])
    assert held(shard[1], tmp_path) == 1000
    fetch(*shard, tmp_path)
    assert host.asked == [(PATH, "bytes=1000-")]
    assert (tmp_path / "shard").read_bytes() == CONTENT
    assert held(shard[1], tmp_path) == len(CONTENT)


def test_a_server_without_ranges_starts_anew(
    host: Host, shard: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    host.ranges = False
    (tmp_path / "shard.part").write_bytes(b"x" * 1000)
    fetch(*shard, tmp_path)
    assert (tmp_path / "shard").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_fetched_anew(shard: tuple[Source, RemoteFile], tmp_path: Path) -> None:
    (tmp_path / "shard.part").write_bytes(b"x" * 20_000)
    fetch(*shard, tmp_path)
    assert (tmp_path / "shard").read_bytes() == CONTENT


@pytest.mark.parametrize("md5_only", [False, True])
def test_a_damaged_file_is_fetched_once_more(host: Host, tmp_path: Path, *, md5_only: bool) -> None:
    host.files[PATH], host.md5_only, host.faults[PATH] = CONTENT, md5_only, ["spoil"]
    source = Bucket(host.address, bucket="box", prefix="")
    (file,) = source.files("set/1.0.0", ["shard"])
    fetch(source, file, tmp_path)
    assert (tmp_path / "shard").read_bytes() == CONTENT
    assert len(host.asked) == 2


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["spoil", "spoil"], r"shard arrives damaged: crc32c [0-9a-f]{8}, not [0-9a-f]{8}"),
        (["busy"] * 9, "answered 503 .* Given up after 4 attempts; what has come stays"),
        (["refuse"], "answered 403"),
        (["drop", "shift"], "byte 5120 was asked for, the answer begins at 5127"),
        (["grow"], "has 10241 bytes now, not 10240: it was changed"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_says_why(
    host: Host, shard: tuple[Source, RemoteFile], tmp_path: Path, faults: list[str], message: str
) -> None:
    host.faults[PATH] = faults
    with pytest.raises(DownloadError, match=message):
        fetch(*shard, tmp_path)
    assert not (tmp_path / "shard").exists()


def test_what_has_come_stays_when_one_gives_up(
    host: Host, shard: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    host.faults[PATH] = ["drop", *["busy"] * 9]
    with pytest.raises(DownloadError):
        fetch(*shard, tmp_path)
    assert held(shard[1], tmp_path) == len(CONTENT) // 2


def test_a_server_that_is_gone_is_named(shard: tuple[Source, RemoteFile], tmp_path: Path) -> None:
    file = RemoteFile(name="shard", size=1, address="http://127.0.0.1:9/shard")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/shard cannot be reached"):
        fetch(shard[0], file, tmp_path)


def test_a_web_server_tells_sizes_and_no_checksums(host: Host, tmp_path: Path) -> None:
    host.files["/data/set/1.0.0/train/a b"] = CONTENT
    source = Website(f"{host.address}/data")
    (file,) = source.files("set/1.0.0", ["train/a b"])
    assert (file.size, file.crc32c, file.md5) == (len(CONTENT), None, None)
    fetch(source, file, tmp_path)
    assert (tmp_path / "train" / "a b").read_bytes() == CONTENT


@pytest.mark.parametrize("scheme", ["memory://", ""])
def test_folders_and_what_fsspec_reads_are_sources(tmp_path: Path, scheme: str) -> None:
    import fsspec

    address = f"{scheme}/mirror-of-files" if scheme else str(tmp_path / "mirror")
    files, root = fsspec.core.url_to_fs(address)
    files.makedirs(f"{root}/set/1.0.0")
    files.pipe_file(f"{root}/set/1.0.0/shard", CONTENT)
    source = Folder(address)
    assert source.versions("set") == ["1.0.0"]
    assert source.versions("other") == []
    (file,) = source.files("set/1.0.0", ["shard"])
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "shard.part").write_bytes(CONTENT[:77])
    fetch(source, file, tmp_path / "to")
    assert (tmp_path / "to" / "shard").read_bytes() == CONTENT
