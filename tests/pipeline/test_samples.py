"""One sample: normalised numbers, decoded pictures, chunks that end where the episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Goals
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.statistics import normalize
from openvla_toolkit.core.types import ADDRESS_FIELDS, Conversation, DataDescription, Turn
from openvla_toolkit.pipeline.filters import Selection
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.samples import PATIENCE, ConversationSource, EpisodeSource
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.pipeline.windows import goal_frame, padded
from openvla_toolkit.testing import DotsRobotConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes
from openvla_toolkit.testing.fakes.world import jpeg

ROBOT = DotsRobotConfig().build()
RULE = Normalization()


def source(
    dataset: DotsEpisodes,
    index: EpisodeIndex,
    *,
    cameras: Sequence[str] = ("wrist", "primary"),
    chunk: int = 1,
    **wanted: Any,
) -> EpisodeSource:
    return EpisodeSource(
        dataset,
        index,
        compute_statistics(index, ROBOT),
        robot=ROBOT,
        normalization=RULE,
        cameras=tuple(cameras),
        chunk=chunk,
        **wanted,
    )


def test_samples_are_made_of_kept_frames_alone(dataset: DotsEpisodes, tmp_path: Path) -> None:
    whole = source(dataset, build_index(dataset, tmp_path / "whole"))
    dataset._episodes = [replace(one, keep=np.arange(len(one)) % 2 == 1) for one in dataset._episodes]
    index = build_index(dataset, tmp_path / "odd")
    samples = source(dataset, index)
    assert index.samples is not None
    assert len(samples) == len(index.samples) < len(whole)
    for position, frame in enumerate(index.samples.tolist()):
        np.testing.assert_array_equal(
            samples.sample(position, number=0).actions, whole.sample(frame, number=0).actions
        )


def test_a_sample_is_the_frame_it_says(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    samples, statistics = source(dataset, index), compute_statistics(index, ROBOT)
    assert len(samples) == index.frames
    assert index.states is not None
    for position in range(len(samples)):
        sample, episode = samples.sample(position, number=0), dataset[index.episode_of(position)]
        frame = position - int(index.starts[index.episode_of(position)])
        assert (sample.instruction, sample.dataset) == (episode.instructions[frame], "dots")
        assert list(sample.images) == ["wrist", "primary"], "in the order the policy wants"
        for camera, pixels in sample.images.items():
            np.testing.assert_array_equal(pixels, decode(dataset.image(episode.images[camera][frame])))
        expected = normalize(episode.actions[frame], statistics.action, RULE)
        np.testing.assert_array_equal(sample.actions, expected[None])
        assert statistics.proprio is not None
        np.testing.assert_array_equal(
            sample.state, normalize(episode.states[frame], statistics.proprio, RULE)
        )


def test_chunks_are_padded_where_the_episode_ends(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    last = int(index.starts[1]) - 1
    statistics = compute_statistics(index, ROBOT)
    chunk = source(dataset, index, chunk=4).sample(last, number=0).actions
    gripper = index.actions[last, 2]
    np.testing.assert_array_equal(chunk[0], normalize(index.actions[last], statistics.action, RULE))
    assert (chunk[1:, :2] == 0).all(), "zeros of the normalised numbers, as the original has it"
    np.testing.assert_array_equal(chunk[1:, 2], [gripper] * 3)


def test_a_missing_camera_is_named(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    with pytest.raises(DataError, match="'dots': no camera 'ceiling'; the data has primary, wrist"):
        source(dataset, index, cameras=("primary", "ceiling"))


def test_a_damaged_picture_is_named(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    position = int(index.starts[2]) + 1
    dataset._pictures[int(index.images["wrist"][position]["offset"])] = b"\xff\xd8nothing"
    with pytest.raises(
        DataError, match=r"episode dots/2, frame 1, 'observation\.images\.wrist': cannot decode"
    ):
        source(dataset, index).sample(position, number=0)


def damage(dataset: DotsEpisodes, index: EpisodeIndex, frame: int, content: bytes = b"") -> None:
    """Replace the picture of the wrist at a frame of the data set."""
    dataset._pictures[int(index.images["wrist"][frame]["offset"])] = content


def test_a_history_begins_with_the_episode(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    first = int(index.starts[1])
    plain, samples = source(dataset, index), source(dataset, index, history=3)
    for frame, seen, observed in (
        (first, [first, first, first], [False, False, True]),
        (first + 2, [first, first + 1, first + 2], [True, True, True]),
    ):
        sample = samples.sample(frame, number=0)
        assert sample.observed is not None
        assert sample.observed.tolist() == observed
        single = [plain.sample(one, number=0) for one in seen]
        for camera, pixels in sample.images.items():
            np.testing.assert_array_equal(pixels, np.stack([one.images[camera] for one in single]))
        np.testing.assert_array_equal(sample.state, np.stack([one.state for one in single]))
        np.testing.assert_array_equal(sample.actions, single[-1].actions)


def test_without_a_history_nothing_is_said_of_it(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    sample = source(dataset, index).sample(0, number=0)
    assert (sample.observed, sample.goal) == (None, None)


def test_a_goal_is_a_later_frame_of_the_episode(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    plain = source(dataset, index, chunk=2)
    samples = source(dataset, index, chunk=9, goals=Goals(), seed=4)
    first, stop = (int(bound) for bound in index.starts[:2])
    for number in range(8):
        goal = goal_frame(first, first=first, stop=stop, rule=Goals(), seed=4, number=number)
        sample, there = samples.sample(first, number=number), plain.sample(goal, number=0)
        assert sample.goal is not None
        for camera, pixels in there.images.items():
            np.testing.assert_array_equal(sample.goal[camera], pixels)
        # At the goal the robot has arrived: what follows is what follows the end of an episode.
        moments = compute_statistics(index, ROBOT).action
        way = normalize(index.actions[first : min(goal + 1, first + 9)], moments, RULE)
        gripper = np.array([False, False, True])
        np.testing.assert_array_equal(sample.actions, padded(way, size=9, absolute=gripper))


def test_no_picture_is_read_that_nothing_uses(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    read: list[int] = []

    class Counting(DotsEpisodes):
        def image(self, address: Any) -> Any:
            read.append(int(address["offset"]))
            return dataset.image(address)

    counting = Counting.__new__(Counting)
    counting.__dict__.update(dataset.__dict__)
    frame = int(index.starts[1]) + 3
    source(counting, index, cameras=["wrist"]).sample(frame, number=0)
    assert read == [index.images["wrist"][frame]["offset"]]
    source(counting, index, cameras=["wrist"], history=2, goals=Goals()).sample(frame, number=0)
    assert len(read) == 1 + 2 + 1


def test_a_camera_that_recorded_nothing_is_named(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    frame = int(index.starts[2]) + 1
    damage(dataset, index, frame)
    with pytest.raises(
        DataError, match=r"memory, episode dots/2, frame 1, 'observation\.images\.wrist': there is no picture"
    ):
        source(dataset, index).sample(frame, number=0)


def test_a_damaged_frame_is_replaced_by_the_next_and_counted(
    dataset: DotsEpisodes, index: EpisodeIndex
) -> None:
    frame = int(index.starts[2]) + 1
    damage(dataset, index, frame)
    damage(dataset, index, frame + 1, b"\xff\xd8nothing")
    samples, last = source(dataset, index, skip=True), index.frames - 1
    wanted, found = samples.sample(frame + 2, number=0), samples.sample(frame, number=0)
    assert (wanted.skipped, found.skipped) == (0, 2)
    np.testing.assert_array_equal(found.images["wrist"], wanted.images["wrist"])
    np.testing.assert_array_equal(found.actions, wanted.actions)
    damage(dataset, index, last)
    np.testing.assert_array_equal(samples.sample(last, number=0).actions, samples.sample(0, number=0).actions)


def test_skipping_gives_up_where_all_is_damaged(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    for frame in range(index.frames):
        damage(dataset, index, frame)
    tried = min(index.frames, PATIENCE)
    with pytest.raises(
        DataError, match=rf"'observation\.images\.wrist': there is no .* the last of {tried} samples in"
    ):
        source(dataset, index, skip=True).sample(0, number=0)


def test_samples_are_those_of_the_selection(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    plain = source(dataset, index)
    samples = source(dataset, index, selection=Selection(index.starts, np.arange(index.episodes) % 2 == 1))
    frames = [frame for one in (1, 3, 5) for frame in range(index.starts[one], index.starts[one + 1])]
    assert len(samples) == len(frames)
    for position, frame in enumerate(frames):
        np.testing.assert_array_equal(
            samples.sample(position, number=0).actions, plain.sample(frame, number=0).actions
        )


class Album:
    """Two conversations, one about a picture."""

    picture = jpeg(np.full((8, 8, 3), 90, dtype=np.uint8))

    def describe(self) -> DataDescription:
        return DataDescription(
            name="album", fingerprint="0", files=("memory",), cameras=("primary",), robot=None
        )

    def __len__(self) -> int:
        return 2

    def __getitem__(self, position: int) -> Conversation:
        turns = [Turn("human", "what is seen?"), Turn("gpt", "grey.")]
        address = np.zeros(1, dtype=np.dtype(ADDRESS_FIELDS))
        return Conversation(name=str(position), images={"primary": address} if position else {}, turns=turns)

    def image(self, address: Any) -> bytes:
        return self.picture


def test_a_conversation_may_be_about_a_picture_or_not() -> None:
    samples = ConversationSource(Album(), cameras=("primary", "wrist"))
    assert len(samples) == 2
    about_nothing, about_a_picture = (samples.sample(position, number=0) for position in range(2))
    assert about_nothing.images == {}
    assert about_a_picture.images["primary"].shape == (8, 8, 3)
    assert [turn.text for turn in about_a_picture.turns] == ["what is seen?", "grey."]


def test_a_damaged_picture_of_a_conversation_is_named_or_skipped() -> None:
    album = Album()
    album.picture = b""
    place = r"memory, episode 1, frame 0, 'observation\.images\.primary': there is no picture"
    with pytest.raises(DataError, match=place):
        ConversationSource(album, cameras=("primary",)).sample(1, number=0)
    sample = ConversationSource(album, cameras=("primary",), skip=True).sample(1, number=0)
    assert (sample.images, sample.skipped) == ({}, 1)
