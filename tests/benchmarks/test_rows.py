"""The rows of benchmarks: what is written can be read, and turns alternate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.rows import Row, interleaved, spread, table, write

KEYS = ["name", "value", "unit", "peer", "peer_value", "ratio", "target", "met"]
KEYS += ["settings", "machine", "date"]


def row(**changes: object) -> Row:
    settings = {"name": "a | b", "value": 2.0, "unit": "ms", "peer": "p", "peer_value": 4.0}
    return Row(**{**settings, "target": "<= 3 ms", "met": True, **changes})  # type: ignore[arg-type]


def test_json_has_the_documented_keys(tmp_path: Path) -> None:
    write([row()], group="group", folder=tmp_path / "results")
    (written,) = json.loads((tmp_path / "results" / "group.json").read_text())
    assert list(written) == KEYS
    assert written["value"] == 2.0
    assert written["machine"]


def test_table_has_a_line_per_row_and_escapes_bars() -> None:
    lines = table([row(), row(met=False), row(met=None, target="")]).splitlines()
    assert lines[2].startswith("| a \\| b | 2 ms | p | 4 ms | 0.5 | <= 3 ms | yes |")
    assert lines[3].endswith("| no |")
    assert lines[4].endswith("|  |  |")


def test_calls_take_turns_and_the_warm_up_is_not_counted() -> None:
    order: list[str] = []

    def call(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = interleaved({"a": lambda: call("a"), "b": lambda: call("b")}, repeats=5, warmup=2)
    assert order == ["a", "b"] * 7
    assert figures["a"] == [5.0, 7.0, 9.0, 11.0, 13.0]


def test_fewer_than_five_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        interleaved({}, repeats=4)


def test_the_ratio_is_that_of_the_figures_beside_it() -> None:
    assert row(value=39.22, peer_value=42.3).ratio == 39.22 / 42.3
    assert "| 39.22 ms | p | 42.3 ms | 0.927 |" in table([row(value=39.22, peer_value=42.3)])


def test_the_spread_is_from_the_least_to_the_most() -> None:
    assert spread([3.0, 1.23456, 20.0]) == "1.235..20"
