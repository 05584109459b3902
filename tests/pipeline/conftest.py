"""Episodes in memory, indexed."""

from __future__ import annotations

from pathlib import Path

import pytest

from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes


@pytest.fixture
def dataset() -> DotsEpisodes:
    """Six short episodes of the fake robot."""
    return DotsEpisodesConfig(episodes=6).build()


@pytest.fixture
def index(dataset: DotsEpisodes, tmp_path: Path) -> EpisodeIndex:
    """Their index."""
    return build_index(dataset, tmp_path / "index")
