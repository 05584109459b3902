"""The script that puts a finished run's policy among the shipped ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "recipes" / "ship_policy.py"


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [0]), (5, [0, 4]), (6, [0, 5]), (13, [0, 5, 10, 12]), (0, [])]
)
def test_the_curves_end_where_the_training_ended(count: int, kept: list[int]) -> None:
    thinned = runpy.run_path(str(SCRIPT))["thinned"]
    assert [line["step"] for line in thinned([{"step": step} for step in range(count)])] == kept
