"""How far a disturbed step is moved is what the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.datasets import DemonstrationsConfig

MODULE = (Path(__file__).parent / "fake_world.py").read_text()
EPISODES = 12


@pytest.fixture
def first_slips(install: Any, tmp_path: Path) -> Any:
    """Return a function: noise scale -> by how much the first step of each episode missed its mark."""
    install(
        "fake-world",
        {"environment": {"fake-world": "fake_world:FakeWorldConfig"}},
        modules={"fake_world": MODULE},
    )

    def make(noise_scale: float) -> np.ndarray:
        settings = {"environment": "fake-world", "dataset": "walks", "episodes": EPISODES, "workers": 1}
        disturbed = {"noise": 1.0, "noise_scale": noise_scale, "root": tmp_path / f"scale-{noise_scale}"}
        config = DemonstrationsConfig.model_validate({**settings, **disturbed, "keep_failures": True})
        config.prepare()
        episodes = [config.build()[position] for position in range(EPISODES)]
        return np.array([one.states[1, 0] - one.states[0, 0] - one.actions[0, 0] for one in episodes])

    return make


def test_a_scale_of_zero_disturbs_nothing(first_slips: Any) -> None:
    np.testing.assert_allclose(first_slips(0.0), 0.0, atol=1e-6)


def test_twice_the_scale_is_twice_the_disturbance(first_slips: Any) -> None:
    small, large = first_slips(0.1), first_slips(0.2)
    back = (
        small < -1e-4
    )  # the expert's first move is the largest that is allowed: forwards the bound cuts off
    assert 3 <= back.sum() < EPISODES
    np.testing.assert_allclose(large[back], 2 * small[back], rtol=1e-3)
    assert 0.02 < np.abs(small[back]).mean() < 0.1  # a tenth of the bound of 0.5, times a normal number
