"""OpenVLA's own answers to made-up trajectories of Open X-Embodiment (``tests/golden/open_x``)."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "open_x"
DATASETS: list[str] = json.loads((GOLDEN / "datasets.json").read_text())
CASES: dict[str, Any] = json.loads((GOLDEN / "cases.json").read_text())


@lru_cache(maxsize=1)
def trajectories() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return ``data set/steps`` -> trajectory before and after its standardisation; not to be changed."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    with np.load(GOLDEN / "arrays.npz") as arrays:
        flat = {key: arrays[key] for key in arrays.files if not key.startswith("norm/")}
    flat |= {key: text_array(stored) for key, stored in CASES["strings"].items()}
    for key, values in flat.items():
        dataset, steps, side, path = key.split("/", 3)
        here = found.setdefault(f"{dataset}/{steps}", ({}, {}))[side == "out"]
        *folders, name = path.split("|")
        for folder in folders:
            here = here.setdefault(folder, {})
        here[name] = values
    return found


def text_array(stored: list[Any]) -> np.ndarray:
    """Return the texts of a case as the readers give them: an object array of bytes."""
    if len(stored) == 2 and isinstance(stored[0], int):
        stored = [stored[1]] * stored[0]
    array = np.empty(len(stored), dtype=object)
    array[:] = [base64.b64decode(text) for text in stored]
    return array
