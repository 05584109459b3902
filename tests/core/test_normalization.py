"""Normalisation agrees with OpenVLA's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.statistics import Moments, normalize
from tests.assets.open_x import CASES, GOLDEN


@pytest.mark.parametrize("case", CASES["normalize"], ids=lambda case: case["prefix"])
@pytest.mark.parametrize("vector", ["action", "proprio"])
def test_normalised_vectors_agree(case: Mapping[str, Any], vector: str) -> None:
    moments = Moments.from_json(case["statistics"][vector], place=vector)
    with np.load(GOLDEN / "arrays.npz") as arrays:
        values, expected = (arrays[f"{case['prefix']}{vector}{end}"] for end in ("", "_out"))
    found = normalize(values, moments, Normalization(method=case["type"]))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)
