"""The verdict over a run that was killed: what changed, or cannot be read, is seen."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.faults import Kill, _rows

STRAIGHT = {step: {"step": step, "loss": 1.0 / step} for step in range(1, 7)}


def told(*steps: int) -> list[dict[str, Any]]:
    return [dict(STRAIGHT[step]) for step in steps]


def kills(**changes: Any) -> list[Kill]:
    """Killed at step 3, resumed from 2; killed at step 4, resumed from 4."""
    first = Kill(victim="rank 0", seconds=0.5, killed_at=3, resumed_from=2, lines=3)
    second = {"victim": "launcher", "seconds": 0.1, "killed_at": 4, "resumed_from": 4, "lines": 5}
    return [first, Kill(**{**second, **changes})]


FOUND = told(1, 2, 3, 3, 4, 5, 6)


def test_a_run_that_lost_nothing_meets_its_target() -> None:
    total, first, second = _rows(kills(), FOUND, STRAIGHT, 1.0)
    assert (total.value, total.peer_value, total.met) == (2, 2, True)
    assert (first.value, first.peer_value, first.met) == (2, 3, True)
    assert (second.value, second.peer_value, second.met) == (4, 4, True)


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        (FOUND[:-1], {}),
        ([*FOUND[:-1], {"step": 6, "loss": 0.1666}], {}),
        (FOUND[:5], {}),
        (FOUND, {"unreadable": ["step-000004"]}),
        (FOUND, {"left": 1}),
    ],
)
def test_what_is_missing_changed_broken_or_left_is_seen(
    found: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    total, first, _ = _rows(kills(**changes), found, STRAIGHT, 1.0)
    assert (total.met, first.met) == (False, True)
