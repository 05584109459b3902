"""One sample: normalised numbers, decoded pictures, chunks that end where the episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images import decode
from openvla_toolkit.core.statistics import normalize
from openvla_toolkit.core.types import ADDRESS_FIELDS, Conversation, DataDescription, Turn
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.samples import ConversationSource, EpisodeSource, action_chunk
from openvla_toolkit.pipeline.statistics import compute_statistics
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
) -> EpisodeSource:
    return EpisodeSource(
        dataset,
        index,
        compute_statistics(index, ROBOT),
        robot=ROBOT,
        normalization=RULE,
        cameras=tuple(cameras),
        chunk=chunk,
    )


def test_samples_are_made_of_kept_frames_alone(dataset: DotsEpisodes, tmp_path: Path) -> None:
    whole = source(dataset, build_index(dataset, tmp_path / "whole"))
    dataset._episodes = [replace(one, keep=np.arange(len(one)) % 2 == 1) for one in dataset._episodes]
    index = build_index(dataset, tmp_path / "odd")
    samples = source(dataset, index)
    assert index.samples is not None
    assert len(samples) == len(index.samples) < len(whole)
    for position, frame in enumerate(index.samples.tolist()):
        np.testing.assert_array_equal(samples[position].actions, whole[frame].actions)


def test_a_sample_is_the_frame_it_says(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    samples, statistics = source(dataset, index), compute_statistics(index, ROBOT)
    assert len(samples) == index.frames
    assert index.states is not None
    for position in range(len(samples)):
        sample, episode = samples[position], dataset[index.episode_of(position)]
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
    chunk = source(dataset, index, chunk=4)[last].actions
    still = normalize(np.zeros(3, dtype=np.float32), statistics.action, RULE)
    gripper = index.actions[last, 2]
    np.testing.assert_array_equal(chunk[0], normalize(index.actions[last], statistics.action, RULE))
    np.testing.assert_array_equal(chunk[1:, :2], np.tile(still[:2], (3, 1)))
    np.testing.assert_array_equal(chunk[1:, 2], [gripper] * 3)


@given(
    length=st.integers(1, 12), size=st.integers(1, 20), width=st.integers(1, 5), data=st.data()
)  # fmt: skip
def test_a_robot_stays_as_it_is_past_the_end(length: int, size: int, width: int, data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, length - 1))
    absolute = np.array(data.draw(st.lists(st.booleans(), min_size=width, max_size=width)))
    actions = np.random.default_rng(length).normal(size=(length, width)).astype(np.float32)
    before = actions.copy()
    chunk = action_chunk(actions, frame, size=size, absolute=absolute)
    for step in range(size):
        inside = frame + step < length
        still = np.where(absolute, actions[-1], 0)
        np.testing.assert_array_equal(chunk[step], actions[frame + step] if inside else still)
    np.testing.assert_array_equal(actions, before)


def test_a_missing_camera_is_named(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    with pytest.raises(DataError, match="'dots': no camera 'ceiling'; the data has primary, wrist"):
        source(dataset, index, cameras=("primary", "ceiling"))


def test_a_damaged_picture_is_named(dataset: DotsEpisodes, index: EpisodeIndex) -> None:
    position = int(index.starts[2]) + 1
    dataset._pictures[int(index.images["wrist"][position]["offset"])] = b"\xff\xd8nothing"
    with pytest.raises(
        DataError, match=r"episode dots/2, frame 1, 'observation\.images\.wrist': cannot decode"
    ):
        source(dataset, index)[position]


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
    assert samples[0].images == {}
    assert samples[1].images["primary"].shape == (8, 8, 3)
    assert [turn.text for turn in samples[1].turns] == ["what is seen?", "grey."]
