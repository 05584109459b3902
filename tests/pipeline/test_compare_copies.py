from __future__ import annotations

import pytest

from openvla_toolkit.pipeline.compare_copies import Difference, compare_episode
from openvla_toolkit.testing import DotsEpisodesConfig


def test_a_data_set_is_its_own_copy() -> None:
    dataset = DotsEpisodesConfig(episodes=2).build()
    found = compare_episode(dataset, dataset, 1)
    assert found.pictures == found.same > 0
    assert (found.mean, found.worst) == (0, 0)


def test_differences_merge() -> None:
    merged = Difference(1, 1, 0.0, 0.0).merged(Difference(3, 0, 4.0, 6.0))
    assert merged == Difference(4, 1, pytest.approx(3.0), 6.0)
    assert Difference().merged(Difference()) == Difference()
