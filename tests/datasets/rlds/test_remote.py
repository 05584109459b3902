"""RLDS behind URLs: the same episodes and pictures, few requests, and errors that name the URL."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
from pydantic import ValidationError

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.hdf5 import HDF5Config
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.testing import check_dataset
from tests.assets.file_server import FileServer, serving

if TYPE_CHECKING:
    from conftest import Made


@pytest.fixture
def server(made: Made) -> Iterator[FileServer]:
    with serving(made.root) as server:
        yield server


@pytest.fixture
def in_memory(made: Made) -> Iterator[str]:
    """Put the files into fsspec's memory and return the root's URL."""
    files = fsspec.filesystem("memory")
    for path in made.root.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/lake/{path.relative_to(made.root)}", path.read_bytes())
    yield "memory://lake"
    files.rm("/lake", recursive=True)


def remote(url: str, **settings: Any) -> RLDSConfig:
    return RLDSConfig.model_validate({"root": url, "dataset": "toy", **settings})


def same(here: Any, there: Any) -> bool:
    pictures = [
        there[position].images[camera].tobytes() == here[position].images[camera].tobytes()
        and [there.image(one) for one in there[position].images[camera]]
        == [here.image(one) for one in here[position].images[camera]]
        for position in range(len(here))
        for camera in here[position].images
    ]
    numbers = [
        np.array_equal(there[position].actions, here[position].actions)
        and np.array_equal(there[position].states, here[position].states)
        and list(there[position].instructions) == list(here[position].instructions)
        for position in range(len(here))
    ]
    return len(here) == len(there) and all(pictures) and all(numbers)


@pytest.mark.parametrize("split", ["train", "val", "train[1:4]"])
def test_memory_gives_what_the_disk_gives(made: Made, in_memory: str, split: str) -> None:
    assert same(made.config(split=split).build(), remote(in_memory, split=split).build())


@pytest.mark.parametrize("below", ["", "/toy", "/toy/1.0.0"])
def test_http_gives_what_the_disk_gives(made: Made, server: FileServer, below: str) -> None:
    data = remote(server.url + below).build()
    assert same(made.config().build(), data)
    assert data.describe().files[0] == f"{server.url}/toy/1.0.0/{made.shards[0].name}"


def test_the_contract_holds_behind_a_url(server: FileServer) -> None:
    check_dataset(remote(server.url, cameras={"primary": "image"}))


def test_copies_read_the_same(made: Made, server: FileServer) -> None:
    assert same(made.config().build(), pickle.loads(pickle.dumps(remote(server.url).build())))


def test_a_server_that_lists_nothing_needs_the_version(made: Made, server: FileServer) -> None:
    server.listing = False
    with pytest.raises(MissingFile, match=r"lists no folders \(then give 'version' as well\)"):
        remote(server.url).build()
    assert same(made.config().build(), remote(server.url, version="1.0.0").build())
    assert same(made.config().build(), remote(f"{server.url}/toy/1.0.0").build())


def test_a_picture_is_read_by_its_range_alone(made: Made, server: FileServer) -> None:
    data, here = remote(server.url).build(), made.config().build()
    addresses = here[2].images["primary"]
    server.asked.clear()
    assert data.image(addresses[1]) == here.image(addresses[1])
    assert [(method, size) for method, _, size in server.asked] == [("GET", int(addresses[1]["length"]))]


def test_opening_and_describing_read_no_shard(server: FileServer) -> None:
    remote(server.url).build().describe()
    assert server.sent("tfrecord") == 0


def test_records_are_read_once_however_often_they_are_asked_for(made: Made, server: FileServer) -> None:
    data = remote(server.url).build()
    for position in [*range(5), 4]:
        data[position]
    assert server.sent("tfrecord") == sum(path.stat().st_size for path in made.shards[:3])


def test_a_block_shares_requests(made: Made, server: FileServer) -> None:
    here, data = made.config().build(), remote(server.url).build()
    addresses = np.concatenate([here[position].images["wrist"] for position in (3, 0, 2)])[::-1]
    server.asked.clear()
    assert data.ahead(addresses) == [here.image(one) for one in addresses]
    assert len(server.asked) == len(np.unique(addresses["file"]))


def test_a_local_set_leaves_the_block_to_the_system(made: Made) -> None:
    data = made.config().build()
    assert data.ahead(data[0].images["primary"]) is None


def test_the_fingerprint_follows_the_mark(made: Made, server: FileServer) -> None:
    def fingerprint() -> str:
        return remote(server.url).build().describe().fingerprint

    first = fingerprint()
    assert fingerprint() == first
    shard = bytearray(made.shards[0].read_bytes())
    shard[-20] ^= 1
    made.shards[0].write_bytes(shard)
    assert fingerprint() != first


def test_the_fingerprint_in_memory_follows_the_time(in_memory: str, made: Made) -> None:
    first = remote(in_memory).build().describe().fingerprint
    assert remote(in_memory).build().describe().fingerprint == first
    name = f"/lake/toy/1.0.0/{made.shards[0].name}"
    files = fsspec.filesystem("memory")
    files.pipe_file(name, files.cat_file(name))
    assert remote(in_memory).build().describe().fingerprint != first


def test_a_server_without_ranges_is_refused(server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(DataError, match=r"features\.json: its server does not give parts of a file .*nginx"):
        remote(server.url).build()


@pytest.mark.parametrize("status", [500, 403])
def test_a_server_in_trouble_is_named(server: FileServer, status: int) -> None:
    data, server.status = remote(server.url).build(), status
    addresses = np.zeros(1, dtype=[("file", "<u4"), ("length", "<u4"), ("offset", "<u8")])
    addresses["length"] = 5
    wrong = MissingFile if status == 403 else DataError
    with pytest.raises(wrong, match=r"http://127\.0\.0\.1:\d+/toy/1\.0\.0/toy-train.*00000-of-0000"):
        data.image(addresses[0])
    with pytest.raises(wrong, match=r"http://127\.0\.0\.1"):
        data[0]


def test_a_server_that_is_gone_is_named(made: Made) -> None:
    with serving(made.root) as server:
        url = server.url
    with pytest.raises(DataError, match=rf"^{url}.*: it cannot be read: .*check the address, the network"):
        remote(url).build()


def shortened(made: Made) -> None:
    made.shards[0].write_bytes(made.shards[0].read_bytes()[:100])


def removed(made: Made) -> None:
    made.shards[0].unlink()


@pytest.mark.parametrize(("change", "error", "reason"), [
    (shortened, DataError, "it cannot be read|the file is shorter than when its index was built"),
    (removed, MissingFile, "is gone, or may not be read, since the data set was opened"),
])  # fmt: skip
def test_a_file_that_changes_under_the_reader_is_named(
    made: Made, server: FileServer, change: Callable[[Any], None], error: type[Exception], reason: str
) -> None:
    data, addresses = remote(server.url).build(), made.config().build()[0].images["primary"]
    name = made.shards[0].name
    change(made)
    with pytest.raises(error, match=reason) as told:
        data.image(addresses[-1])
    assert name in str(told.value)


def test_a_missing_shard_is_named(made: Made, server: FileServer) -> None:
    removed(made)
    with pytest.raises(MissingFile, match=rf"{server.url}/toy/1\.0\.0/{made.shards[0].name}|does not exist"):
        remote(server.url).build()


@pytest.mark.parametrize("config", [LeRobotConfig, HDF5Config])
def test_kinds_that_read_files_of_this_machine_say_so(config: Any) -> None:
    cameras = {"cameras": {"primary": "rgb"}}
    with pytest.raises(ValidationError, match="read from folders of this machine only: copy s3://bucket/set"):
        config.model_validate({"root": "s3://bucket/set", **cameras})


def test_the_settings_survive_their_own_text(made: Made) -> None:
    config = remote("s3://bucket/lake/")
    assert config.root == RemotePath("s3://bucket/lake")
    assert RLDSConfig.model_validate(config.model_dump(mode="json")) == config
    here = RLDSConfig.model_validate(made.config().model_dump(mode="json"))
    assert here.root == made.root
    assert isinstance(RLDSConfig(root=f"file://{made.root}", dataset="toy").root, Path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "found"), [("", "toy"), ("/toy", "toy"), ("/toy/1.0.0", "toy"), ("/no", None)]
)
def test_a_set_is_found_behind_a_url(server: FileServer, url: str, found: str | None) -> None:
    config = RLDSConfig.found_at(RemotePath(server.url + url))
    if url == "":
        assert config is None
    else:
        assert (config and config.dataset) == found
