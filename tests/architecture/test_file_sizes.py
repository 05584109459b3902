"""Files stay short enough to be read in one go, and no folder becomes a drawer for odds and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("openvla_toolkit", "plugins", "tests", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DRAWERS = {"utils", "util", "common", "helpers", "misc"}
LIMIT = 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_the_limit(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LIMIT


def test_nothing_is_called_utils() -> None:
    parts = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert parts & DRAWERS == set()
