"""Statistics agree with NumPy, and with what OpenVLA computes on data that tensorflow-datasets wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.types import DataDescription, Episode
from openvla_toolkit.embodiments import WidowXConfig
from openvla_toolkit.executors import ProcessesConfig
from openvla_toolkit.pipeline import statistics as module
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsRobotConfig

ASSET = Path(__file__).parent.parent / "golden" / "statistics.json"
WIDOWX = WidowXConfig().build()


def test_they_are_numpys(index: EpisodeIndex) -> None:
    statistics = compute_statistics(index, DotsRobotConfig().build())
    assert statistics.proprio is not None
    assert index.states is not None
    assert (statistics.num_transitions, statistics.num_trajectories) == (index.frames, 6)
    for moments, values in ((statistics.action, index.actions), (statistics.proprio, index.states)):
        exact = np.array(values, dtype=np.float64)
        np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(moments.std, exact.std(0), rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(moments.min, exact.min(0))
        np.testing.assert_array_equal(moments.max, exact.max(0))
        np.testing.assert_array_equal(moments.q01, np.quantile(exact, 0.01, axis=0))
        np.testing.assert_array_equal(moments.q99, np.quantile(exact, 0.99, axis=0))


def test_several_processes_give_the_same(index: EpisodeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = DotsRobotConfig().build()
    monkeypatch.setattr(module, "ROWS", 5)
    alone = compute_statistics(index, robot)
    next(index.folder.glob("statistics.*")).unlink()
    together = compute_statistics(index, robot, executor=ProcessesConfig(workers=2).build())
    assert together.to_json() == alone.to_json()


def test_they_are_computed_once_for_a_mask(index: EpisodeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = DotsRobotConfig().build()
    first = compute_statistics(index, robot)
    assert [path.name for path in index.folder.glob("statistics.*")] == ["statistics.110.json"]
    monkeypatch.setattr(module, "_measure", None)
    assert compute_statistics(index, robot).to_json() == first.to_json()
    free = robot.model_copy(update={"action": robot.state[:2] + robot.state[:1]})
    with pytest.raises(TypeError):
        compute_statistics(index, free)


def test_a_damaged_file_is_named_with_its_remedy(index: EpisodeIndex) -> None:
    path = index.folder / "statistics.110.json"
    for text in ("{", "{}", "[]"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"statistics.110.json: the statistics are damaged: .* Delete"):
            compute_statistics(index, DotsRobotConfig().build())


def test_a_robot_of_another_width_is_refused_before_anything_is_kept(index: EpisodeIndex) -> None:
    complaint = r"index .*: the action has 3 numbers, the embodiment describes 7 \("
    with pytest.raises(ContractMismatch, match=complaint):
        compute_statistics(index, WIDOWX)
    assert not list(index.folder.glob("statistics.*"))


def test_grippers_are_masked(index: EpisodeIndex) -> None:
    statistics = compute_statistics(index, DotsRobotConfig().build())
    assert statistics.action.mask.tolist() == [True, True, False]
    assert statistics.proprio is not None
    assert statistics.proprio.mask.all()


def test_they_are_openvlas(tmp_path: Path) -> None:
    """The original computes means and deviations in float32, which shows in the seventh digit."""
    golden = json.loads(ASSET.read_text())
    index = build_index(Recorded(golden), tmp_path / "index")
    statistics, expected = compute_statistics(index, WIDOWX).to_json(), golden["expected"]
    for key in ("num_transitions", "num_trajectories"):
        assert statistics[key] == expected[key]
    for vector in ("action", "proprio"):
        for key in ("min", "max", "q01", "q99"):
            assert statistics[vector][key] == expected[vector][key]
        for key in ("mean", "std"):
            assert statistics[vector][key] == pytest.approx(expected[vector][key], rel=1e-6, abs=1e-9)
    assert statistics["action"]["mask"] == expected["action"]["mask"]


class Recorded:
    """The numbers of recorded episodes as a data set without pictures."""

    def __init__(self, golden: Mapping[str, Any]) -> None:
        self._bounds = np.concatenate([[0], np.cumsum(golden["lengths"])])
        self._actions, self._states = (np.float32(golden[key]) for key in ("actions", "states"))

    def describe(self) -> DataDescription:
        return DataDescription(name="bridge", fingerprint="0" * 16, files=(), cameras=(), robot=WIDOWX)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, position: int) -> Episode:
        frames = slice(self._bounds[position], self._bounds[position + 1])
        actions = self._actions[frames]
        told = ["go"] * len(actions)
        return Episode(
            name=str(position), images={}, states=self._states[frames], actions=actions, instructions=told
        )

    def image(self, address: np.void) -> bytes:
        raise AssertionError("statistics never look at images")
