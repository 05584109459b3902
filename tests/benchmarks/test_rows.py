"""The rows of benchmarks: what is written can be read, and turns alternate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.rows import Row, interleaved, median_ratio, table, write

KEYS = ["name", "value", "unit", "peer", "peer_value", "ratio", "target", "met"]
KEYS += ["settings", "machine", "date"]


def row(**changes: object) -> Row:
    settings = {"name": "a | b", "value": 2.0, "unit": "ms", "peer": "p", "peer_value": 4.0, "ratio": 0.5}
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


def test_the_ratio_is_taken_turn_by_turn() -> None:
    assert median_ratio([1.0, 10.0, 3.0], [1.0, 5.0, 1.0]) == 2.0
