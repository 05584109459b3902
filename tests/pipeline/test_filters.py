"""Whole episodes are left out, in the original's order, and counted with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Filters
from openvla_toolkit.core.errors import DataError, RecipeError
from openvla_toolkit.core.statistics import normalize
from openvla_toolkit.pipeline import filters
from openvla_toolkit.pipeline.filters import Choice, Selection, choose
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsRobotConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

ROBOT = DotsRobotConfig().build()
RULE = Normalization(method="normal")


def chosen(index: EpisodeIndex, *, skip: bool = False, **settings: object) -> Choice:
    wanted = Filters.model_validate(settings)
    return choose(index, compute_statistics(index, ROBOT), wanted, RULE, dataset="dots", skip=skip)


def positions(choice: Choice) -> list[int]:
    assert choice.selection is not None
    return [choice.selection[number] for number in range(len(choice.selection))]


def silent(dataset: DotsEpisodes, *episodes: int) -> None:
    """Take the instructions of some episodes away."""
    for number in episodes:
        one = dataset._episodes[number]
        dataset._episodes[number] = replace(one, instructions=[""] * len(one))


@given(pieces=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_a_selection_is_what_is_kept_in_order(pieces: list[tuple[int, bool]]) -> None:
    bounds = np.cumsum([3, *(length for length, _ in pieces)])
    kept = np.array([keep for _, keep in pieces], dtype=bool)
    found = Selection(bounds, kept)
    wanted = [
        place
        for number, keep in enumerate(kept)
        for place in range(bounds[number], bounds[number + 1])
        if keep
    ]
    assert [found[number] for number in range(len(found))] == wanted


def test_nothing_is_dropped_where_nothing_is_asked_for(index: EpisodeIndex) -> None:
    assert chosen(index) == Choice(selection=None, dropped=[])


def test_episodes_without_an_instruction_are_refused_by_name(dataset: DotsEpisodes, tmp_path: Path) -> None:
    silent(dataset, 2, 4)
    index = build_index(dataset, tmp_path / "silent")
    with pytest.raises(DataError, match=r"^episode dots/2, frame 0, 'task': nothing was said.* 2 of 6 "):
        chosen(index)
    assert chosen(index, unlabeled="keep") == Choice(selection=None, dropped=[])


def test_episodes_without_an_instruction_are_dropped_and_counted(
    dataset: DotsEpisodes, tmp_path: Path
) -> None:
    silent(dataset, 2, 4)
    index = build_index(dataset, tmp_path / "silent")
    starts = index.starts
    left = [*range(starts[2]), *range(starts[3], starts[4]), *range(starts[5], starts[6])]
    frames = len(dataset[2]) + len(dataset[4])
    for choice in (chosen(index, unlabeled="drop"), chosen(index, skip=True)):
        assert positions(choice) == left
        assert choice.dropped == [("unlabeled", 2, frames, "dots/2")]


def test_one_frame_with_an_instruction_is_enough(dataset: DotsEpisodes, tmp_path: Path) -> None:
    one = dataset._episodes[0]
    dataset._episodes[0] = replace(one, instructions=["go", *[""] * (len(one) - 1)])
    assert chosen(build_index(dataset, tmp_path / "one")) == Choice(selection=None, dropped=[])


def test_limits_are_those_of_the_normalised_numbers(
    index: EpisodeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_FRAMES", 7)  # pieces that do not end with episodes
    statistics = compute_statistics(index, ROBOT)
    assert index.states is not None
    assert statistics.proprio is not None
    for key, values, moments in (
        ("max_action", index.actions, statistics.action),
        ("max_state", index.states, statistics.proprio),
    ):
        largest = np.abs(normalize(values, moments, RULE)).max(axis=1)
        peaks = np.maximum.reduceat(largest, index.starts[:-1])
        limit = float(np.sort(peaks)[3])
        out = np.flatnonzero(peaks > limit)
        assert 0 < len(out) < index.episodes
        choice = chosen(index, **{key: limit})
        frames = int(np.diff(index.starts)[out].sum())
        assert choice.dropped == [(key, len(out), frames, index.names[out[0]])]
        assert len(positions(choice)) == index.frames - frames


def test_an_episode_is_counted_once_for_the_first_filter(dataset: DotsEpisodes, tmp_path: Path) -> None:
    silent(dataset, 0, 1, 2, 3)
    index = build_index(dataset, tmp_path / "silent")
    with pytest.raises(
        DataError, match="'dots': no sample is left of 6 episodes: unlabeled drops 4, max_action drops 2"
    ):
        chosen(index, unlabeled="drop", max_action=1e-6)


def test_frames_that_a_transform_took_out_stay_out(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [replace(one, keep=np.arange(len(one)) % 2 == 1) for one in dataset._episodes]
    silent(dataset, 1)
    index = build_index(dataset, tmp_path / "odd")
    assert index.samples is not None
    frames = index.samples[positions(chosen(index, unlabeled="drop"))]
    wanted = [one for one in index.samples.tolist() if index.episode_of(one) != 1]
    assert frames.tolist() == wanted


@pytest.mark.parametrize("key", ["max_action", "max_state"])
@pytest.mark.parametrize("method", ["bounds_q99", "bounds"])
def test_a_limit_that_clipping_makes_idle_is_refused(index: EpisodeIndex, key: str, method: str) -> None:
    statistics, rule = compute_statistics(index, ROBOT), Normalization.model_validate({"method": method})

    def apply(rule: Normalization, limit: float) -> Choice:
        return choose(index, statistics, Filters.model_validate({key: limit}), rule, dataset="dots")

    with pytest.raises(
        RecipeError, match=rf"^filters\.{key}: 4 would never drop an episode of 'dots'.*{method}"
    ):
        apply(rule, 4)
    apply(rule.model_copy(update={"clip": False}), 40)
    assert apply(Normalization(method="normal"), 40) == Choice(selection=None, dropped=[])


def test_a_limit_acts_on_numbers_that_clipping_leaves_as_they_are(index: EpisodeIndex) -> None:
    statistics = compute_statistics(index, ROBOT)
    gripper = replace(statistics.action, mask=np.zeros(len(statistics.action.mask), bool))
    wide = replace(statistics, action=replace(gripper, max=gripper.max + 100))
    assert choose(index, wide, Filters(max_action=4), Normalization(), dataset="dots").dropped == []


def test_a_limit_of_a_state_needs_one(dataset: DotsEpisodes, tmp_path: Path) -> None:
    dataset._episodes = [replace(one, states=None) for one in dataset._episodes]
    index = build_index(dataset, tmp_path / "blind")
    with pytest.raises(RecipeError, match=r"^filters\.max_state: 'dots' has no state"):
        chosen(index, max_state=3)
