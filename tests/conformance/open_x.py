"""The original's answers to made-up trajectories of Open X-Embodiment, as the readers would give them."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tests.conformance import kit

FOLDER = "oxe_transforms"
CASES: dict[str, Any] = kit.recorded(f"{FOLDER}/cases.json") or {}
DATASETS: list[str] = list(CASES.get("transforms", {}))

Q01 = (
    *(-0.7776297926902771, -0.5803514122962952, -0.5795090794563293),
    *(-0.6464047729969025, -0.7041108310222626, -0.8895104378461838),
)
Q99 = (
    *(0.7597932070493698, 0.5726242214441299, 0.7351000607013702),
    *(0.6705610305070877, 0.6464948207139969, 0.8897542208433151),
)
"""Quantiles of the whole of DROID, which the original's filter of still frames holds."""


class Case(NamedTuple):
    """A trajectory before and after its standardisation; not to be changed."""

    given: dict[str, Any]
    expected: dict[str, Any]


@cache
def standardized(dataset: str) -> dict[int, Case]:
    """Return number of steps -> case of a data set."""
    return _cases(CASES["transforms"][dataset]["cases"])


@cache
def unregistered(name: str) -> dict[int, Case]:
    """Return number of steps -> case of a function that the registry does not have."""
    return _cases(CASES["extra"][name])


def array(name: str) -> Any:
    """Return an array that lies beside the cases."""
    return kit.arrays(f"{FOLDER}/arrays.npz")[name]


def _cases(stored: list[dict[str, Any]]) -> dict[int, Case]:
    return {one["T"]: Case(_nested(one["inputs"]), _nested(one["outputs"])) for one in stored}


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, stored in flat.items():
        *folders, name = path.split(CASES["key_separator"])
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})
        here[name] = _leaf(stored)
    return tree


def _leaf(stored: dict[str, Any]) -> Any:
    if stored["kind"] == "array":
        values = array(stored["npz_key"])
        assert (str(values.dtype), list(values.shape)) == (stored["dtype"], stored["shape"])
        return values
    texts = np.empty(len(stored["base64"]), dtype=object)
    texts[:] = [base64.b64decode(text) for text in stored["base64"]]
    return texts
