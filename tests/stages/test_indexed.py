"""The index of a run's data: made where the recipe says, and told of what is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.hooks import Observers, observe
from openvla_toolkit.core.worker import InTurn
from openvla_toolkit.environments.tabletop import TabletopScenesConfig
from openvla_toolkit.stages.prepare import indexed, prepare
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes


class Told:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, int, dict[str, Any]]] = []

    @observe
    def metrics_logged(self, stage: str, step: int, values: dict[str, Any]) -> None:
        self.facts.append((stage, step, values))


class Counted:
    """An executor that says how often it was used."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    def map(
        self, work: Callable[[Any, Any], Any], pieces: Sequence[Any], *, setup: Callable[[], Any]
    ) -> Generator[tuple[int, Any], None, None]:
        self.pieces.append(len(pieces))
        return InTurn().map(work, pieces, setup=setup)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path))


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> DotsEpisodesConfig:
    """Four episodes, the second with a NaN among its actions."""
    build = DotsEpisodesConfig.build

    def broken(config: DotsEpisodesConfig) -> DotsEpisodes:
        dataset = build(config)
        dataset._episodes[1].actions[0, 0] = np.nan
        return dataset

    monkeypatch.setattr(DotsEpisodesConfig, "build", broken)
    return DotsEpisodesConfig()


def test_episodes_are_read_and_frames_counted_by_the_executor() -> None:
    executor = Counted()
    prepare([DotsEpisodesConfig()], Observers().tell, executor=executor)
    assert executor.pieces == [1, 1, 1]  # the index, and the two passes of the statistics
    prepare([DotsEpisodesConfig()], Observers().tell, executor=executor)
    assert len(executor.pieces) == 3


def test_damage_is_an_error(damaged: DotsEpisodesConfig) -> None:
    with pytest.raises(DataError, match="episode dots/1, frame 0, 'action'"):
        prepare([damaged], Observers().tell)


def test_what_is_skipped_is_told(damaged: DotsEpisodesConfig, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    config = damaged.model_copy(update={"on_error": "skip"})
    with caplog.at_level(logging.WARNING):
        (item,) = prepare([config], Observers([told]).tell)
    assert item.index is not None
    assert item.index.episodes == 3
    assert told.facts[-1] == ("prepare skip dots", 3, {"total": 4, "dropped_damaged": 1})
    (record,) = caplog.records
    assert "dots: 1 of 4 episodes are damaged and left out. The first: episode dots/1" in record.getMessage()


def test_only_episodes_are_indexed() -> None:
    config = TabletopScenesConfig(items=3)
    with pytest.raises(ContractMismatch, match="holds no robot's episodes"):
        indexed(config.build(), config, Observers().tell)
