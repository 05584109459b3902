"""The episode index: what is in it, and what it refuses."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import Episode
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
    assert told == [(done, len(dataset)) for done in range(1, len(dataset) + 1)]
    second = build()
    assert len(told) == len(dataset)
    np.testing.assert_array_equal(first.actions, second.actions)


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
            r"expected shape \(\d, 3\), as wide as in dots/0; found None",
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
