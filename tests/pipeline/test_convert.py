from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError, UserError
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.conversion import RLDSShardWriter
from openvla_toolkit.executors import ProcessesConfig
from openvla_toolkit.pipeline.convert import Converted, Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

GOLDEN = Path(__file__).parent.parent / "golden" / "rlds" / "data"
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


def damaged(monkeypatch: pytest.MonkeyPatch, *, position: int, frame: int, data: bytes) -> None:
    """Replace one picture of the dots' second camera, and number its file."""
    read = DotsEpisodes.image
    names = sorted(SOURCE.build().describe().cameras)
    place = SOURCE.build()[position].images[names[-1]][frame]["offset"]
    monkeypatch.setattr(
        DotsEpisodes,
        "image",
        lambda dataset, address: data if address["offset"] == place else read(dataset, address),
    )


CONVERSIONS = [
    {"to": "rlds"},
    {"to": "rlds", "settings": {"pictures": "png"}},
    {"to": "lerobot", "settings": {"pictures": "image"}},
    {"to": "lerobot"},
]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0 cut off"])
@pytest.mark.parametrize("how", CONVERSIONS)
def test_a_damaged_picture_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: dict[str, Any],
    data: bytes,
) -> None:
    damaged(monkeypatch, position=1, frame=1, data=data)
    with pytest.raises(DataError, match=r"memory, episode dots/1, frame 1, 'observation\.images\.wrist': "):
        convert(job(tmp_path, **how))
    assert not (tmp_path / "copy").exists()
    assert "Svt" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("how", CONVERSIONS[1:3])
def test_damaged_episodes_are_left_out_and_counted_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    damaged(monkeypatch, position=1, frame=1, data=b"\xff\xd8 cut off")
    whole = DotsEpisodes.__getitem__

    def third_is_damaged(dataset: DotsEpisodes, position: int) -> Episode:
        if position == 2:
            raise DataError("it is torn.", episode="third")
        return whole(dataset, position)

    monkeypatch.setattr(DotsEpisodes, "__getitem__", third_is_damaged)
    source = SOURCE.model_copy(update={"on_error": "skip"})
    done = convert(job(tmp_path, source=source, **how))
    assert [one.episode for one in done.skipped] == [1, 2]
    assert "frame 1, 'observation.images.wrist'" in done.skipped[0].reason
    assert "it is torn" in done.skipped[1].reason
    copy = done.config.build()
    assert (done.episodes, len(copy)) == (4, 4)
    left = [SOURCE.build()[position].actions for position in (0, 3, 4, 5)]
    for position, actions in enumerate(left):
        np.testing.assert_array_equal(copy[position].actions, actions)


def test_a_source_without_a_whole_episode_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DotsEpisodes, "image", lambda dataset, address: b"")
    source = SOURCE.model_copy(update={"on_error": "skip"})
    with pytest.raises(
        DataError, match=r"none of its 6 episodes is whole\. The first: memory, episode dots/0"
    ):
        convert(job(tmp_path, source=source))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", [{"to": "rlds"}, {"to": "lerobot", "settings": {"pictures": "image"}}])
def test_all_splits_stay_splits(tmp_path: Path, how: dict[str, Any]) -> None:
    robot = {"name": "widowx", "cameras": {"primary": {"height": 128, "width": 128, "codec": ["jpeg"]}}}
    given = {"root": GOLDEN, "dataset": "bridge_orig", "cameras": {"primary": "image_0"}, "embodiment": robot}
    source = RLDSConfig.model_validate(given)
    done = convert(job(tmp_path, source=source, shard_frames=10_000, **how))
    assert (done.splits, done.shards) == ({"train": 3, "val": 1}, 2)
    assert done.config.build().describe().splits == {"train": 3, "val": 1}
    for split, episodes in done.splits.items():
        recorded = source.model_copy(update={"split": split}).build()
        copied = done.config.model_copy(update={"split": split}).build()
        assert len(copied) == len(recorded) == episodes
        for position in range(episodes):
            np.testing.assert_array_equal(copied[position].actions, recorded[position].actions)
    chosen = job(tmp_path / "part", source=source.model_copy(update={"split": "val"}), **how)
    part = convert(chosen)
    assert (part.splits, part.source_splits) == ({"train": 1}, {"train": 3, "val": 1})
    only = convert(job(tmp_path / "again", source=source.model_copy(update={"split": "all"}), **how))
    assert only.splits == done.splits


def test_two_conversions_do_not_write_to_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = RLDSShardWriter.write
    refused: list[str] = []

    def another(writer: RLDSShardWriter, source: Any, shard: int, folder: Path) -> Mapping[str, Any]:
        with pytest.raises(UserError, match="another conversion is writing to") as error:
            convert(job(tmp_path))
        refused.append(str(error.value))
        return write(writer, source, shard, folder)

    monkeypatch.setattr(RLDSShardWriter, "write", another)
    done = convert(job(tmp_path))
    assert len(refused) == done.shards
    assert len(done.config.build()) == 6


def test_nothing_is_written_into_the_source(tmp_path: Path) -> None:
    done = convert(job(tmp_path))
    before = content(tmp_path / "copy")
    with pytest.raises(UserError, match=r"lies within .*copy, which is read"):
        convert(job(tmp_path, source=done.config, destination=tmp_path / "copy" / "sub"))
    assert content(tmp_path / "copy") == before


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
    two = convert(
        job(tmp_path / "two"),
        executor=ProcessesConfig(workers=2).build(),
        report=lambda *words: told.append(words),
    )
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


def test_the_source_is_measured_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = convert(job(tmp_path / "whole"))
    monkeypatch.setattr("openvla_toolkit.pipeline.episode_ranges.SMALLEST", 2)
    told: list[tuple[str, int, int]] = []
    parts = convert(job(tmp_path / "parts"), report=lambda *words: told.append(words))
    assert content(tmp_path / "parts" / "copy") == content(tmp_path / "whole" / "copy")
    assert (parts.episodes, parts.frames) == (whole.episodes, whole.frames)
    assert [words for words in told if words[0] == "read"] == [("read", done, 6) for done in (2, 4, 6)]
