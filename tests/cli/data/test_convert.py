from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.lerobot import LeRobotConfig
from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig
from tests.assets.file_server import serving

Openvla = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rlds(tmp_path: Path) -> Path:
    source = DotsEpisodesConfig(episodes=3, dataset="dots")
    convert(Job(source=source, destination=tmp_path / "dots", to="rlds", settings={}))
    return tmp_path / "dots"


def test_a_folder_is_recognised_and_written_as_lerobot(openvla: Openvla, rlds: Path, tmp_path: Path) -> None:
    words = ["--to", "lerobot", "--workers", "1", "--write", "pictures=image", "--read", "split=train[:2]"]
    code, out, err = openvla("data", "convert", str(rlds), str(tmp_path / "lr"), *words)
    assert (code, err.splitlines()[-1]) == (0, "verify 1/1")
    assert "2 episodes" in out
    assert "10 of 10 pictures identical." in out  # up to three of each episode (2 and 4 frames) and camera
    assert f"{{name: lerobot, root: {tmp_path / 'lr'}, dataset: lr}}" in out
    assert len(LeRobotConfig(root=tmp_path / "lr").build()) == 2


def test_what_is_not_copied_is_said(openvla: Openvla, rlds: Path, tmp_path: Path) -> None:
    words = ["--to", "rlds", "--workers", "1"]
    code, out, _ = openvla("data", "convert", str(rlds), str(tmp_path / "a"), *words, "-r", "split=train[1:]")
    assert (code, "Only a part was read, of train (3)" in out) == (0, True)
    shard = next(rlds.glob("1.0.0/*tfrecord*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    code, _, err = openvla("data", "convert", str(rlds), str(tmp_path / "b"), *words)
    assert (code, shard.name in err) == (1, True)
    code, out, _ = openvla("data", "convert", str(rlds), str(tmp_path / "c"), *words, "-r", "on_error=skip")
    assert code == 0
    assert f"Left out episode 1: {shard}" in out
    assert "1 of 3 episodes are damaged and not in the copy." in out


def test_splits_are_said(openvla: Openvla, tmp_path: Path) -> None:
    golden = Path(__file__).parents[2] / "golden" / "rlds" / "data" / "bridge_orig"
    words = ["--to", "rlds", "--workers", "1"]
    code, out, _ = openvla("data", "convert", str(golden), str(tmp_path / "copy"), *words)
    assert code == 0
    assert "Splits: train (3), val (1)." in out


def test_a_set_behind_a_url_is_recognised(openvla: Openvla, rlds: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        url = f"{server.url}/{rlds.name}"
        words = ["--to", "rlds", "--workers", "2"]
        code, out, err = openvla("data", "convert", url, str(tmp_path / "copy"), *words)
        assert (code, err.splitlines()[-1]) == (0, "verify 1/1")
        assert "3 episodes" in out
        code, _, err = openvla("data", "convert", f"{server.url}/absent", "x", "--to", "rlds")
    assert code == 2
    assert f"{server.url}/absent does not exist" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent", "x", "--to", "rlds"], "absent does not exist"),
        ([".", "x", "--to", "rlds"], ". is no data set; there are some inside: dots."),
        (["dots", "x", "--to", "parquet"], "no dataset named 'parquet'"),
        (["dots", "x", "--to", "lerobot", "--write", "codek=x"], "codek"),
        (["dots", "x", "--to", "lerobot", "--write", "codec"], "'codec' is not of the form KEY=VALUE"),
        (["dots", "x", "--to", "lerobot", "--read", "splt=train"], "Did you mean 'split'?"),
        (["dots", "dots", "--to", "lerobot"], "exists already"),
        (["dots", "x"], "Missing option '--to'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    openvla: Openvla, rlds: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(rlds.parent)
    code, _, err = openvla("data", "convert", *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (rlds.parent / "x").exists()


def test_an_unknown_part_is_suggested(openvla: Openvla) -> None:
    code, _, err = openvla("data", "convrt")
    assert code == 2
    assert "Did you mean 'convert'?" in err


def test_a_kind_that_is_not_recognised_is_named(openvla: Openvla, tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["language_instruction"] = "wait"
        demo["actions"] = np.zeros((4, 1))
        demo["obs/front"] = np.zeros((4, 16, 16, 3), np.uint8)
    robot = (
        "{name: custom, control_hz: 10, cameras: {front: {height: 16, width: 16}}, "
        "action: [{name: x, unit: m, reference: delta}]}"
    )
    words = ["name=hdf5", "cameras={front: obs/front}", f"embodiment={robot}"]
    read = [part for word in words for part in ("--read", word)]
    options = ["--to", "rlds", "--workers", "1", "--write", "pictures=png"]
    code, out, _ = openvla("data", "convert", str(path), str(tmp_path / "copy"), *options, *read)
    assert code == 0
    assert "1 episodes, 4 frames" in out
    assert "3 of 3 pictures identical." in out
    assert list(RLDSConfig(root=tmp_path / "copy", dataset="copy").build()[0].instructions) == ["wait"] * 4
