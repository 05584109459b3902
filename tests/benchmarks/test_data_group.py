"""The benchmarks of data: what they read is what they say, and peers that are missing or fail stop them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import data
from benchmarks.data import frames, generated, peers, throughput
from benchmarks.data.synthetic import ROBOT, Synthetic
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.pipeline.frames import as_recorded
from openvla_toolkit.pipeline.index import build_index
from openvla_toolkit.pipeline.statistics import compute_statistics


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the data small, in a folder of their own."""
    for name, value in {"EPISODES": 2, "LENGTH": 4, "SIZE": 72, "COPIES": 3}.items():
        monkeypatch.setattr(generated, name, value)
    monkeypatch.setattr(generated, "CAMERA", {**generated.CAMERA, "height": 72, "width": 72})
    monkeypatch.setattr(generated, "data_folder", lambda: tmp_path)
    with generated.scratch():
        yield tmp_path


def test_without_peers_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENVLA_PEER_PYTHON", str(tmp_path / "python"))
    monkeypatch.setattr(data, "PARTS", (None,))
    with pytest.raises(
        RuntimeError, match=r"not installed: .*python does not exist\. 'nox -s peers' makes it"
    ):
        data.measure()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take this interpreter for the peers'; the file of the only program."""
    monkeypatch.setenv("OPENVLA_PEER_PYTHON", sys.executable)
    monkeypatch.setattr(peers, "PROGRAMS", tmp_path)
    return tmp_path / "peer.py"


def test_a_figure_is_what_a_program_prints_last(program: Path) -> None:
    program.write_text("import sys; print('a line'); print(sum(map(float, sys.argv[1:])))")
    assert peers.figure("peer", 1, 2.5) == 3.5


def test_a_program_that_fails_is_quoted(program: Path) -> None:
    program.write_text("raise ValueError('no such data')")
    with pytest.raises(RuntimeError, match=r"the peer 'peer' failed:(.|\n)*no such data"):
        peers.figure("peer")


def test_programs_exist_and_import_nothing_of_ours() -> None:
    programs = list(peers.PROGRAMS.glob("[a-z]*.py"))
    assert {path.stem for path in programs} == {"tf_data", "lerobot_loader"}
    assert not any("openvla" in path.read_text() for path in programs)


def test_all_sets_hold_the_same_pictures(small: Path) -> None:
    plain = generated.rlds_set().build()
    pictures = [plain.image(address) for address in plain[1].images["primary"]]
    assert decode(pictures[0]).shape == (72, 72, 3)
    large = generated.large_rlds_set().build()
    assert len(large) == 3 * len(plain) == 6
    assert [large.image(address) for address in large[5].images["primary"]] == pictures
    plainly = {}
    for kind in ("image", "image-compressed"):
        copy = generated.lerobot_set(kind).build()
        plainly[kind] = bool(copy[1].images["primary"]["offset"][0] >> np.uint64(63))
        assert [copy.image(address) for address in copy[1].images["primary"]] == pictures
    assert plainly == {"image": True, "image-compressed": False}


@pytest.mark.parametrize("mode", ["original", "fused"])
def test_what_is_measured_is_frames_of_the_size_that_is_told(small: Path, mode: str) -> None:
    maker = frames._maker(mode)  # type: ignore[arg-type]
    sample = throughput.source(generated.rlds_set(), maker).sample(3, number=0)
    assert sample.images["primary"].shape == (224, 224, 3)
    assert sample.images["primary"].dtype == np.uint8


def test_a_rate_is_counted(small: Path) -> None:
    samples = throughput.source(generated.rlds_set(), as_recorded)
    assert throughput.frames_per_second(samples, workers=0, seconds=0.01) > 0


def test_synthetic_episodes_are_indexed(tmp_path: Path) -> None:
    index = build_index(Synthetic(1000, length=100), tmp_path / "index")
    assert (index.frames, index.episodes) == (1000, 10)
    assert len(np.unique(index.images["primary"]["offset"])) == 1000
    statistics = compute_statistics(index, ROBOT)
    np.testing.assert_allclose(statistics.action.std, np.ones(7), atol=0.2)
