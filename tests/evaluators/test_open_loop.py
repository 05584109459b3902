from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.evaluators import OpenLoopConfig
from openvla_toolkit.evaluators.open_loop import evenly_spaced


def silent(done: int, values: Mapping[str, float]) -> None:
    assert done <= values["total"]


def test_errors_are_in_units_and_normalised_per_dimension(world: ModuleType, tmp_path: Path) -> None:
    config = OpenLoopConfig(data=world.PointDatasetConfig(), frames=1000, batch=7)
    policy = world.PointPolicy(step=0.1, tokens=True)
    figures = config.build().evaluate(policy, tmp_path, silent)
    fast = sum((4 + position + 3) // 4 for position in range(8))  # every fourth frame goes 0.1 m farther
    share = fast / figures["frames"]
    assert figures["frames"] == sum(4 + position for position in range(8))
    x, gripper = figures["dimensions"]
    assert (x["name"], x["unit"]) == ("x", "m")
    assert x["l1"] == pytest.approx(0.1 * share, abs=1e-5)
    assert x["l1_normalized"] == pytest.approx(0.5 * share, abs=1e-4)
    assert x["token_accuracy"] == pytest.approx(1 - share, abs=1e-5)
    assert gripper["l1"] == 0
    assert gripper["token_accuracy"] == 1
    assert figures["token_accuracy"] == pytest.approx(1 - share / 2)
    assert figures["summary"][0].startswith(f"token accuracy {100 * (1 - share / 2):.1f} %, L1 0.0")
    assert sum(figures["actions"]["dimensions"][0]["counts"]["recorded"]) == figures["frames"]
    assert json.loads(json.dumps(figures)) == figures


def test_a_policy_without_tokens_has_no_token_accuracy(world: ModuleType, tmp_path: Path) -> None:
    config = OpenLoopConfig(data=world.PointDatasetConfig(), frames=10)
    figures = config.build().evaluate(world.PointPolicy(chunk=3), tmp_path, silent)
    assert "token_accuracy" not in figures
    assert figures["frames"] <= 10
    assert figures["summary"][0].startswith("L1 ")


def test_frames_are_spread_over_all_episodes(world: ModuleType) -> None:
    data = world.PointDatasetConfig().build()
    places = list(evenly_spaced(data, 8, horizon=1, seed=3))
    assert [episode for episode, _ in places] == list(range(8))
    assert len(set(evenly_spaced(data, 1000, horizon=1, seed=3))) == 60
    assert list(evenly_spaced(data, 8, horizon=1, seed=3)) == places
    assert list(evenly_spaced(data, 8, horizon=1, seed=4)) != places


def test_only_the_episodes_that_are_needed_are_read(world: ModuleType) -> None:
    data = world.PointDatasetConfig().build()
    assert len(list(evenly_spaced(data, 3, horizon=1, seed=0))) == 3
    assert data.reads == 3


def test_frames_leave_room_for_a_whole_chunk(world: ModuleType) -> None:
    data = world.PointDatasetConfig().build()
    for episode, frame in evenly_spaced(data, 200, horizon=5, seed=0):
        assert frame + 5 <= 4 + episode
    with pytest.raises(DataError, match="no episode has 50 frames"):
        list(evenly_spaced(data, 200, horizon=50, seed=0))


def test_conversations_are_refused(world: ModuleType, tmp_path: Path) -> None:
    config = OpenLoopConfig(data=world.PointDatasetConfig(robot_recorded=False))
    with pytest.raises(ContractMismatch, match="'points' holds no robot episodes"):
        config.build().evaluate(world.PointPolicy(), tmp_path, silent)
