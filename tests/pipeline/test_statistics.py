"""Statistics agree with NumPy, and with what OpenVLA computes on data that tensorflow-datasets wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsRobotConfig

GOLDEN = Path(__file__).parent.parent / "golden" / "rlds"


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


def test_grippers_are_masked(index: EpisodeIndex) -> None:
    statistics = compute_statistics(index, DotsRobotConfig().build())
    assert statistics.action.mask.tolist() == [True, True, False]
    assert statistics.proprio is not None
    assert statistics.proprio.mask.all()


def test_they_are_openvlas(tmp_path: Path) -> None:
    """The original measures all splits, in float32 but for the quantiles."""
    dataset = RLDSConfig(root=GOLDEN / "data", dataset="bridge_orig", split="all").build()
    robot = dataset.describe().robot
    assert robot is not None
    statistics = compute_statistics(build_index(dataset, tmp_path / "index"), robot).to_json()
    expected = json.loads((GOLDEN / "expected.json").read_text())["statistics"]
    for key in ("min", "max", "q01", "q99"):
        assert statistics["action"][key] == expected[key]
    for key in ("mean", "std"):
        assert statistics["action"][key] == pytest.approx(expected[key], rel=1e-5)
    assert statistics["action"]["mask"] == [True] * 6 + [False]
