"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from openvla_toolkit.core.errors import StorageError
from openvla_toolkit.core.storage import atomic_folder, atomic_write_text, is_partial, storage_errors


def test_a_folder_takes_its_name_only_when_it_is_full(tmp_path: Path) -> None:
    final = tmp_path / "runs" / "step-1"
    with atomic_folder(final) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a.txt").write_text("a")
        assert is_partial(partial)
        assert not final.exists()
    assert (final / "deep" / "a.txt").read_text() == "a"
    assert [path.name for path in final.parent.iterdir()] == ["step-1"]


def test_an_error_in_between_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_folder(tmp_path / "x") as partial:
            (partial / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_replaced_only_when_asked(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "x") as partial:
        (partial / "old").touch()
    with pytest.raises(StorageError, match="exists already"), atomic_folder(tmp_path / "x"):
        pass
    with atomic_folder(tmp_path / "x", replace=True) as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "new"]


def test_a_folder_that_appears_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    def write_late() -> None:
        with atomic_folder(tmp_path / "x"):
            (tmp_path / "x").mkdir()
            (tmp_path / "x" / "theirs").touch()

    with pytest.raises(StorageError, match="made by another process meanwhile"):
        write_late()
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "theirs"]


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"no space left while writing .*x \("),
        atomic_folder(tmp_path / "x"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_body_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "x"):
        (tmp_path / "missing").read_text()


def test_a_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwei ▁")
    assert path.read_text(encoding="utf-8") == "zwei ▁"
    assert len(list(path.parent.iterdir())) == 1


def test_refusals_of_the_disk_name_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        atomic_write_text(tmp_path / "file" / "below", "text")
    with pytest.raises(StorageError, match="cannot write here: Read-only"), storage_errors(Path("here")):
        raise OSError(errno.EROFS, "Read-only file system")
