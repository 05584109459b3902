"""``openvla data index``: what it prints, what it keeps, what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.pipeline.index import EpisodeIndex
from openvla_toolkit.testing import DotsEpisodesConfig

Openvla = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three episodes as RLDS, and a cache of their own."""
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path / "cache"))
    source = DotsEpisodesConfig(episodes=3, dataset="dots")
    convert(Job(source=source, destination=tmp_path / "dots", to="rlds", settings={}))
    return tmp_path / "dots"


def damage(folder: Path) -> None:
    """Change the last byte of the data of the last record."""
    (shard,) = folder.glob("*/*.tfrecord*")
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)


def test_it_says_what_there_is_and_where(openvla: Openvla, rlds: Path) -> None:
    code, out, err = openvla("data", "index", str(rlds))
    assert code == 0
    assert "dots: 3 episodes, " in out
    assert " MB in 1 files\n" in out
    assert "MB/s)" in out
    assert err == "index dots 3/3\n"
    code, out, err = openvla("data", "index", str(rlds))
    assert (code, err) == (0, "")
    assert "was there already" in out


def test_the_same_as_json(openvla: Openvla, rlds: Path) -> None:
    code, out, _ = openvla(
        "data", "index", str(rlds), "--json", "--read", "split=train[:2]", "--workers", "1"
    )
    found = json.loads(out)
    index = EpisodeIndex(Path(found["index"]))
    assert code == 0
    assert (found["episodes"], found["frames"]) == (2, index.frames)
    assert (found["samples"], found["skipped"], found["was_there"]) == (index.frames, [], False)
    assert found["bytes"] == sum(path.stat().st_size for path in rlds.glob("*/*.tfrecord*"))
    assert found["index_bytes"] > 16 * index.frames


def test_a_damaged_episode_is_an_error_unless_it_is_skipped(openvla: Openvla, rlds: Path) -> None:
    damage(rlds)
    code, _, err = openvla("data", "index", str(rlds))
    assert code == 1
    assert "00000-of-00001, episode 2: " in err
    code, out, _ = openvla("data", "index", str(rlds), "--read", "on_error=skip")
    assert code == 0
    assert "skipped: 1 of 3 episodes\n  2: " in out
    assert "checksum" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--executor", "procesess"], "executor.name: no executor named 'procesess'. Did you mean"),
        (["--executor", "{name: processes, worker: 2}"], "Did you mean 'workers'?"),
        (["--executor", "[1]"], "executor"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    openvla: Openvla, rlds: Path, words: list[str], message: str
) -> None:
    code, _, err = openvla("data", "index", str(rlds), *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
