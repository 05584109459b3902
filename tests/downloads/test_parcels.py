from __future__ import annotations

import json
from pathlib import Path

import pytest

from openvla_toolkit.catalog.tables import table
from openvla_toolkit.core.errors import DownloadError, MissingFile, OpenVLAError, StorageError, UserError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.downloads import download as downloading
from openvla_toolkit.downloads.download import check_space, download
from openvla_toolkit.downloads.parcels import Order, Taken, pack
from openvla_toolkit.downloads.published import members, published, published_names
from openvla_toolkit.executors.processes import Processes
from tests.downloads.host import Host, publish

BUCKET = "gresearch/robotics"


def test_every_data_set_of_the_catalog_has_an_answer() -> None:
    sets, known = table("downloads")["sets"], table("datasets")
    assert sets.keys() == known.keys()
    for name, row in sets.items():
        assert ("unavailable" in row) != ("place" in row), name
        assert row.get("place", "open-x") in table("downloads")["places"]
    assert len(published_names()) == 62


def test_bridge_orig_does_not_come_from_the_bucket() -> None:
    offer = published("bridge_orig")
    assert (offer.folder, offer.version) == ("bridge_dataset", "1.0.0")
    assert offer.place.startswith("https://rail.eecs.berkeley.edu/")
    for bucket in ("gs://gresearch/robotics", "https://storage.googleapis.com/gresearch/robotics/"):
        with pytest.raises(UserError, match=r"does not hold 'bridge_orig'.*berkeley.*leave --source out"):
            published("bridge_orig", source=bucket)
    assert published("bridge_oxe").folder == "bridge"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bridge_orgi", "Did you mean 'bridge_orig'"),
        ("droid_wipe", "cannot be downloaded. Its makers have not published it"),
        ("rh20t", "rh20t.github.io"),
    ],
)
def test_what_is_not_published_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        published(name)


def test_a_mixture_stands_for_its_members() -> None:
    assert members("bridge_rt_1") == ["bridge_orig", "fractal20220817_data"]
    assert members("libero_4_task_suites_no_noops")[0] == "libero_spatial_no_noops"
    assert members("toto") == ["toto"]


def test_a_data_set_comes_from_the_bucket_with_checksums(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    host.files[f"/{BUCKET}/toto/0.1.0/dots-train.tfrecord-00000-of-00009"] = b"of another cut"
    parcel = pack(Order(name="toto", to=tmp_path))
    assert parcel.folder == tmp_path / "toto" / "0.1.0"
    assert parcel.splits == {"train": Taken(episodes=6, of=6)}
    assert parcel.checked
    assert parcel.whole
    assert parcel.missing == parcel.size == sum(file.stat().st_size for file in recorded.glob("*tfrecord*"))
    told: list[tuple[int, int]] = []
    download([parcel], Processes(1), lambda done, total: told.append((done, total)))
    assert {file.name: file.read_bytes() for file in parcel.folder.iterdir()} == {
        file.name: file.read_bytes() for file in recorded.iterdir()
    }
    assert told[-1] == (parcel.size, parcel.size)
    assert parcel.missing == 0
    asked = len(host.asked)
    download([parcel], Processes(1))
    assert len(host.asked) == asked


def test_bridge_is_renamed(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, "rail/bridge_dataset/1.0.0")
    parcel = pack(Order(name="bridge_orig", to=tmp_path))
    assert not parcel.checked
    download([parcel], Processes(1))
    assert (tmp_path / "bridge_orig" / "1.0.0" / "dataset_info.json").is_file()


def test_several_workers_do_it_too(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    parcel = pack(Order(name="toto", to=tmp_path, source=str(mirror(tmp_path, recorded))))
    download([parcel], Processes(2))
    assert parcel.missing == 0


def mirror(tmp_path: Path, recorded: Path) -> Path:
    """Return a folder that holds data sets."""
    target = tmp_path / "mirror" / "toto"
    target.mkdir(parents=True)
    (target / "0.1.0").symlink_to(recorded)
    return target.parent


def test_a_part_is_the_first_shards_of_every_split(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    parcel = pack(Order(name="toto", to=tmp_path, shards=1))
    assert [file.name for file in parcel.files] == ["dots-train.tfrecord-00000-of-00003"]
    assert parcel.splits["train"] == Taken(episodes=2, of=6)
    assert not parcel.whole


def test_a_mirror_may_hold_anything_under_any_version(recorded: Path, tmp_path: Path) -> None:
    root = mirror(tmp_path, recorded)
    (root / "mine").mkdir()
    for version in ("2.0.0", "10.0.0", "9.0.0"):
        (root / "mine" / version).symlink_to(recorded)
    parcel = pack(Order(name="mine", to=tmp_path / "to", source=str(root)))
    assert parcel.version == "10.0.0"


def test_an_interrupted_download_is_no_data_set(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    parcel = pack(Order(name="toto", to=tmp_path))
    host.faults[f"/{BUCKET}/toto/0.1.0/{parcel.files[1].name}"] = ["refuse"]
    with pytest.raises(DownloadError, match="403"):
        download([parcel], Processes(1))
    assert not (parcel.folder / "dataset_info.json").exists()
    assert parcel.missing == parcel.files[1].size + parcel.files[2].size
    download([parcel], Processes(1))
    assert parcel.missing == 0


@pytest.mark.parametrize(
    ("order", "spoilt", "kind", "message"),
    [
        ({"version": "9.9.9"}, {}, UserError, "toto has no version 9.9.9. There are: 0.1.0."),
        ({"name": "viola"}, {}, UserError, "viola has no version 0.1.0. Give --version."),
        ({"source": "WEB", "name": "mine"}, {}, UserError, "holds no data set 'mine'.*give --version"),
        ({}, {"dots-train.tfrecord-00002-of-00003": None}, MissingFile, "lacks 1 of the 3 files"),
        ({"source": "WEB"}, {"dots-train.tfrecord-00002-of-00003": None}, MissingFile, "lacks 1 of the 3"),
        ({}, {"features.json": None}, MissingFile, "features.json does not exist"),
        ({}, {"dataset_info.json": b"{"}, DownloadError, "is not as TFDS writes it"),
        ({}, {"name": "../../dots"}, DownloadError, "which lies outside of its folder"),
        ({}, {"fileFormat": "array_record"}, UserError, "the files are array_record; only tfrecord"),
    ],
)
def test_what_cannot_be_packed_is_told_before_anything_is_fetched(
    host: Host,
    recorded: Path,
    tmp_path: Path,
    order: dict[str, str],
    spoilt: dict[str, bytes | str | None],
    kind: type[OpenVLAError],
    message: str,
) -> None:
    folder = f"{BUCKET}/toto/0.1.0"
    publish(host, recorded, folder)
    for name, content in spoilt.items():
        if content is None:
            del host.files[f"/{folder}/{name}"]
        elif isinstance(content, bytes):
            host.files[f"/{folder}/{name}"] = content
        else:
            info = json.loads(host.files[f"/{folder}/dataset_info.json"])
            host.files[f"/{folder}/dataset_info.json"] = json.dumps({**info, name: content}).encode()
    given = {"name": "toto", **order}
    if "source" in given:
        given["source"] = f"http://localhost:{host.server_port}/{BUCKET}"
    with pytest.raises(kind, match=message):
        pack(Order(to=tmp_path, **given))
    assert not list(tmp_path.iterdir())


def test_another_data_set_in_the_way_is_left_alone(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    (tmp_path / "toto" / "0.1.0").mkdir(parents=True)
    (tmp_path / "toto" / "0.1.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"toto/0\.1\.0 holds another data set: remove it"):
        pack(Order(name="toto", to=tmp_path))


def test_a_full_disk_is_told_before_anything_is_fetched(
    host: Host, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    parcel = pack(Order(name="toto", to=tmp_path))
    check_space([parcel])
    usage = downloading.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="--shards"):
        download([parcel], Processes(1))
    assert not parcel.folder.exists()


def test_two_downloads_do_not_write_to_one_folder(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, f"{BUCKET}/toto/0.1.0")
    parcel = pack(Order(name="toto", to=tmp_path))
    parcel.folder.mkdir(parents=True)
    with locked(parcel.folder), pytest.raises(StorageError, match="another process is downloading to"):
        download([parcel], Processes(1))
    download([parcel], Processes(1))
    assert parcel.missing == 0
