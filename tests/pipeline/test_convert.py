from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError, UserError
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets.rlds.conversion import RLDSShardWriter
from openvla_toolkit.pipeline.convert import Converted, Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

SOURCE = DotsEpisodesConfig(episodes=6, dataset="dots")


def job(folder: Path, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "source": SOURCE,
        "destination": folder / "copy",
        "to": "rlds",
        "settings": {},
        "shard_frames": 3,
    }
    return Job(**(given | changes))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class _Fails:
    """Lets the writer fail at one shard, as a machine that is switched off does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
        self.written: list[int] = []
        self.shard: int | None = shard
        write = RLDSShardWriter.write

        def failing(writer: RLDSShardWriter, source: Any, shard: int, folder: Path) -> Mapping[str, Any]:
            if shard == self.shard:
                raise KeyboardInterrupt
            self.written.append(shard)
            return write(writer, source, shard, folder)

        monkeypatch.setattr(RLDSShardWriter, "write", failing)


def test_an_interrupted_conversion_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = convert(job(tmp_path / "whole"))
    assert (whole.resumed, whole.shards > 2) == (0, True)
    fails = _Fails(monkeypatch, shard=2)
    with pytest.raises(KeyboardInterrupt):
        convert(job(tmp_path))
    assert not (tmp_path / "copy").exists()
    fails.shard = None
    done = convert(job(tmp_path))
    assert fails.written == list(range(whole.shards))
    assert done.resumed == 2
    assert content(tmp_path / "copy") == content(tmp_path / "whole" / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "whole"]


def test_an_unfinished_conversion_with_other_settings_is_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Fails(monkeypatch, shard=1)
    with pytest.raises(KeyboardInterrupt):
        convert(job(tmp_path))
    for other in ({"settings": {"pictures": "png"}}, {"source": DotsEpisodesConfig(episodes=3)}):
        with pytest.raises(UserError, match="unfinished conversion with other settings"):
            convert(job(tmp_path, **other))


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(UserError, match="exists already"):
        convert(job(tmp_path))


def test_a_kind_that_is_only_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'hdf5' are not written"):
        convert(job(tmp_path, to="hdf5"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nested: nested.update(action=nested["action"] + 1), "'action': the copy has other numbers"),
        (
            lambda nested: nested.update(language_instruction=["no"] * len(nested["action"])),
            "'task': the copy has other instructions",
        ),
        (
            lambda nested: nested["observation"].update(
                image_wrist=[np.full((32, 32, 3), 255, np.uint8)] * len(nested["action"])
            ),
            "'observation.images.wrist': the copy shows another picture",
        ),
    ],
)
def test_a_copy_that_differs_is_not_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    right = RLDSShardWriter._nested

    def wrong(writer: RLDSShardWriter, source: Any, episode: Any) -> dict[str, Any]:
        nested = right(writer, source, episode)
        change(nested["steps"])
        return nested

    monkeypatch.setattr(RLDSShardWriter, "_nested", wrong)
    with pytest.raises(DataError, match=message):
        convert(job(tmp_path))
    assert not (tmp_path / "copy").exists()


def test_several_processes_write_the_same(tmp_path: Path) -> None:
    one = convert(job(tmp_path / "one"))
    told: list[tuple[str, int, int]] = []
    two = convert(job(tmp_path / "two"), workers=2, report=lambda *words: told.append(words))
    assert content(tmp_path / "one" / "copy") == content(tmp_path / "two" / "copy")
    assert isinstance(two, Converted)
    assert two.difference == one.difference
    assert two.difference.same == two.difference.pictures > 0
    assert ("verify", two.shards, two.shards) in told


@pytest.mark.parametrize("to", ["rlds", "lerobot"])
def test_frames_that_are_no_samples_stay_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    whole = DotsEpisodes.__getitem__

    def second_frames(dataset: DotsEpisodes, position: int) -> Episode:
        episode = whole(dataset, position)
        return replace(episode, keep=np.arange(len(episode)) > 0) if position != 1 else episode

    monkeypatch.setattr(DotsEpisodes, "__getitem__", second_frames)
    settings = {"pictures": "image"} if to == "lerobot" else {}
    copy = convert(job(tmp_path, to=to, settings=settings)).config.build()
    masks = [copy[position].keep for position in range(2)]
    assert masks[0].tolist() == [False] + [True] * (len(copy[0]) - 1)
    assert masks[1].all()
