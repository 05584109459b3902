"""The episode index: what is in it, and what it refuses."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.types import Episode
from openvla_toolkit.executors import ProcessesConfig
from openvla_toolkit.pipeline import index as module
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index, index_folder
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes


def test_every_number_and_address_is_found_again(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    episodes = [dataset[position] for position in range(len(dataset))]
    assert index.episodes == len(episodes)
    assert index.frames == sum(map(len, episodes))
    assert index.states is not None
    for number, episode in enumerate(episodes):
        frames = slice(int(index.starts[number]), int(index.starts[number + 1]))
        np.testing.assert_array_equal(index.actions[frames], episode.actions)
        np.testing.assert_array_equal(index.states[frames], episode.states)
        assert [index.instructions[one] for one in index.instruction_of[frames]] == list(episode.instructions)
        for camera, addresses in episode.images.items():
            np.testing.assert_array_equal(index.images[camera][frames], addresses)
        assert {index.episode_of(frame) for frame in range(frames.start, frames.stop)} == {number}


def test_an_address_takes_sixteen_bytes(index: EpisodeIndex) -> None:
    assert {addresses.dtype.itemsize for addresses in index.images.values()} == {16}


def test_it_is_built_once(dataset: DotsEpisodes, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def build() -> EpisodeIndex:
        return build_index(dataset, tmp_path / "index", lambda done, total: told.append((done, total)))

    first = build()
    assert told == [(len(dataset), len(dataset))]
    second = build()
    assert len(told) == 1
    np.testing.assert_array_equal(first.actions, second.actions)


def test_who_comes_second_waits_and_finds_it_done(
    dataset: DotsEpisodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, waiting, made = threading.Event(), threading.Event(), []

    class Slow(DotsEpisodes):
        def __getitem__(self, position: int) -> Episode:
            begun.set()
            assert waiting.wait(60), "the other one did not wait"
            return super().__getitem__(position)

    class Unread(DotsEpisodes):
        def __getitem__(self, position: int) -> Episode:
            raise AssertionError("the index is made already")

    def build(kind: type[DotsEpisodes]) -> None:
        made.append(build_index(kind(DotsEpisodesConfig(episodes=6)), tmp_path / "index").frames)

    monkeypatch.setattr(module._log, "warning", lambda *said: waiting.set())
    first = threading.Thread(target=build, args=(Slow,))
    first.start()
    assert begun.wait(60)
    build(Unread)
    first.join()
    assert made == [sum(map(len, dataset._episodes))] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_what_a_killed_process_left_is_removed(dataset: DotsEpisodes, tmp_path: Path) -> None:
    leftover = tmp_path / "other.partial-1-abcdef01"
    (leftover / "pieces").mkdir(parents=True)
    build_index(dataset, tmp_path / "index")
    assert not leftover.exists()


def test_other_content_has_another_place(tmp_path: Path) -> None:
    one, same, other = (DotsEpisodesConfig(seed=seed).build().describe() for seed in (0, 0, 1))
    assert index_folder(tmp_path, one) == index_folder(tmp_path, same) != index_folder(tmp_path, other)


def test_a_worker_is_sent_the_place_and_not_the_content(index: EpisodeIndex) -> None:
    sent = pickle.dumps(index)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).actions, index.actions)


def test_data_without_state_has_none(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [replace(episode, states=None) for episode in dataset._episodes]
    assert build_index(dataset, tmp_path / "index").states is None


def _with_nan(episode: Episode) -> Episode:
    actions = episode.actions.copy()
    actions[1, 2] = np.nan
    return replace(episode, actions=actions)


def _without_wrist(episode: Episode) -> Episode:
    return replace(episode, images={"primary": episode.images["primary"]})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_with_nan, "episode dots/3, frame 1, 'action': a value is not finite"),
        (lambda one: replace(one, states=one.states / 0.0), "'observation.state': a value is not finite"),
        (
            lambda one: replace(one, states=None),
            r"expected shape \(\d, 3\), as the embodiment describes it \(x, y, gripper\); found None",
        ),
        (lambda one: replace(one, actions=one.actions[:, :2]), r"'action': expected shape .*found \(\d, 2\)"),
        (lambda one: replace(one, states=one.states[1:]), "'observation.state': expected shape"),
        (lambda one: replace(one, instructions=["go"]), r"'task': expected \d instructions, found 1"),
        (_without_wrist, r"'observation.images.wrist': expected \d images, found 0"),
        (
            lambda one: replace(one, images={name: addresses[1:] for name, addresses in one.images.items()}),
            r"'observation.images.primary': expected \d images, found \d",
        ),
        (
            lambda one: replace(one, actions=one.actions[:0], states=one.states[:0], instructions=[]),
            "episode dots/3: the episode has no frames",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_damaged_episode_is_named(
    damage: Callable[[Episode], Episode], complaint: str, dataset: DotsEpisodes, tmp_path: Path
) -> None:
    dataset._episodes[3] = damage(dataset._episodes[3])
    with pytest.raises(DataError, match=complaint):
        build_index(dataset, tmp_path / "index")
    assert not list(tmp_path.iterdir()), "a refused data set leaves nothing behind"


def test_pieces_make_the_same_index_as_one(dataset: DotsEpisodes, tmp_path: Path, monkeypatch: Any) -> None:
    first, *others = dataset._episodes
    dataset._episodes = [replace(first, keep=np.arange(len(first)) != 1), *others]
    whole = build_index(dataset, tmp_path / "whole")
    monkeypatch.setattr("openvla_toolkit.pipeline.episode_ranges.SMALLEST", 1)
    told: list[tuple[int, int]] = []
    executor = ProcessesConfig(workers=2).build()
    build_index(dataset, tmp_path / "pieces", lambda *done: told.append(done), executor=executor)
    assert content(tmp_path / "pieces") == content(whole.folder)
    assert told == [(done, 6) for done in range(1, 7)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*")}


def test_instructions_are_kept_once_in_the_order_of_their_coming(
    dataset: DotsEpisodes, tmp_path: Path
) -> None:
    told = [["lift", ""], ["", "lift"], ["öffne", ""]]
    dataset._episodes = [
        replace(one, instructions=[words[frame > 0] for frame in range(len(one))])
        for one, words in zip(dataset._episodes, told, strict=False)
    ]
    index = build_index(dataset, tmp_path / "index")
    assert list(index.instructions) == ["lift", "", "öffne"]
    for number, words in enumerate(told):
        assert index.instructions[index.instruction_of[index.starts[number]]] == words[0]


def test_only_empty_texts_are_texts(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [replace(one, name="", instructions=[""] * len(one)) for one in dataset._episodes]
    index = build_index(dataset, tmp_path / "index")
    assert (list(index.instructions), list(index.names)) == ([""], [""] * 6)


@pytest.mark.parametrize("number", [0, 3])
def test_a_damaged_episode_may_be_skipped(number: int, dataset: DotsEpisodes, tmp_path: Path) -> None:
    names = [one.name for one in dataset._episodes]
    dataset._episodes[number] = _with_nan(dataset._episodes[number])
    index = build_index(dataset, tmp_path / "index", on_error="skip")
    (skipped,) = index.skipped
    assert skipped.episode == number
    assert "a value is not finite" in skipped.reason
    assert list(index.names) == [name for name in names if name != f"dots/{number}"]
    assert index.frames == sum(len(one) for one in dataset._episodes) - len(dataset._episodes[number])
    assert EpisodeIndex(tmp_path / "index").skipped == index.skipped


def test_reasons_name_files_from_the_root(
    dataset: DotsEpisodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {2: "data/torn.h5", 3: "s3://bucket/torn.h5"}

    class Torn(DotsEpisodes):
        def __getitem__(self, position: int) -> Episode:
            if position in places:
                raise DataError("it is torn.", file=places[position])
            return super().__getitem__(position)

    index = build_index(Torn(DotsEpisodesConfig()), tmp_path / "index", on_error="skip")
    reasons = [one.reason for one in index.skipped]
    assert reasons == [f"{tmp_path}/data/torn.h5: it is torn.", "s3://bucket/torn.h5: it is torn."]


def narrow(episode: Episode) -> Episode:
    return replace(episode, actions=episode.actions[:, :2])


def test_widths_are_those_of_the_embodiment(dataset: DotsEpisodes, tmp_path: Path) -> None:
    first, *others = dataset._episodes
    dataset._episodes = [narrow(first), *others]
    complaint = r"dots/0, 'action': expected shape \(\d, 3\), as the embodiment .*found \(\d, 2\)\. Mend"
    with pytest.raises(DataError, match=complaint):
        build_index(dataset, tmp_path / "index")
    index = build_index(dataset, tmp_path / "index", on_error="skip")
    assert [one.episode for one in index.skipped] == [0]
    assert index.actions.shape[1] == 3


def test_an_index_is_not_used_for_an_embodiment_of_other_widths(
    dataset: DotsEpisodes, index: EpisodeIndex, tmp_path: Path
) -> None:
    robot = dataset._robot
    complaint = r"dots: the action has 3 numbers, the embodiment describes 2 \(x, y\)\. Give the embodiment"
    dataset._robot = robot.model_copy(update={"action": robot.action[:2]})
    with pytest.raises(ContractMismatch, match=complaint):
        build_index(dataset, tmp_path / "index")
    dataset._robot = robot.model_copy(update={"state": robot.state[:1]})
    with pytest.raises(ContractMismatch, match=r"the state has 3 numbers, the embodiment describes 1 \(x\)"):
        build_index(dataset, tmp_path / "index")


def test_what_was_skipped_is_an_error_for_whom_it_is_one(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes[3] = _with_nan(dataset._episodes[3])
    build_index(dataset, tmp_path / "index", on_error="skip")
    complaint = "'dots': 1 episodes are damaged, first number 3: episode dots/3, frame 1, .* on_error: skip"
    with pytest.raises(DataError, match=complaint):
        build_index(dataset, tmp_path / "index")


def test_nothing_but_damage_is_an_error(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [_with_nan(one) for one in dataset._episodes]
    complaint = "'dots': none of its 6 episodes can be read. The first: episode dots/0, frame 1"
    with pytest.raises(DataError, match=complaint):
        build_index(dataset, tmp_path / "index", on_error="skip")
    assert not list(tmp_path.iterdir())


def test_no_episodes_is_an_error(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = []
    with pytest.raises(DataError, match="'dots': there are no episodes to read"):
        build_index(dataset, tmp_path / "index")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _lose_key(path: Path) -> None:
    path.write_text(json.dumps({"instructions": []}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("actions.npy", _cut),
        ("actions.npy", Path.unlink),
        ("images.wrist.npy", lambda path: path.write_bytes(b"")),
        ("names.ends.npy", _cut),
        ("index.json", _cut),
        ("index.json", _lose_key),
    ],
)
def test_a_damaged_index_is_named_with_its_remedy(
    name: str, damage: Callable[[Path], None], dataset: DotsEpisodes, index: EpisodeIndex, tmp_path: Path
) -> None:
    damage(tmp_path / "index" / name)
    with pytest.raises(DataError, match=rf"{name}: the index is damaged: .* Delete the folder"):
        build_index(dataset, tmp_path / "index")


def test_files_of_two_indexes_are_told_apart(
    dataset: DotsEpisodes, index: EpisodeIndex, tmp_path: Path
) -> None:
    np.save(tmp_path / "index" / "actions.npy", np.array(index.actions[:-1]))
    with pytest.raises(DataError, match="its files do not belong together"):
        build_index(dataset, tmp_path / "index")


def test_frames_that_are_not_kept_count_and_make_no_samples(dataset: DotsEpisodes, tmp_path: Path) -> None:
    first, *others = dataset._episodes
    keep = np.arange(len(first)) != 1
    dataset._episodes = [replace(first, keep=keep), *others]
    index = build_index(dataset, tmp_path / "index")
    assert index.frames == sum(map(len, dataset._episodes))
    assert index.samples is not None
    assert index.samples.tolist() == [frame for frame in range(index.frames) if frame != 1]


def test_no_frame_that_is_kept_is_an_error(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [replace(one, keep=np.zeros(len(one), dtype=bool)) for one in dataset._episodes]
    with pytest.raises(DataError, match="leave no frame to make a sample from"):
        build_index(dataset, tmp_path / "index")


def test_what_is_kept_is_said_for_every_frame(dataset: DotsEpisodes, tmp_path: Path) -> None:
    first, *others = dataset._episodes
    dataset._episodes = [replace(first, keep=np.ones(1, dtype=bool)), *others]
    with pytest.raises(DataError, match="'keep': expected one value per frame"):
        build_index(dataset, tmp_path / "index")
