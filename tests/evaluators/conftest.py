"""The one-dimensional world, importable here and in worker processes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ASSETS))
    return importlib.import_module("point_world")
