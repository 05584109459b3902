"""Normalisations of other code bases by name: their formulas, written out once more here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.core.contract import DIALECTS, Normalization, by_dialect
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.statistics import Moments, normalize, unnormalize

MOMENTS = Moments(
    mean=np.array([0.5, -1.0, 3.0, 0.2]),
    std=np.array([0.25, 2.0, 0.0, 0.4]),
    max=np.array([2.0, 5.0, 3.0, 1.0]),
    min=np.array([-1.0, -5.0, 3.0, 0.0]),
    q01=np.array([-0.5, -4.0, 3.0, 0.0]),
    q99=np.array([1.5, 4.0, 3.0, 1.0]),
    mask=np.array([True, True, True, False]),
)
"""The third number never changes, the fourth is a gripper."""
LOW, HIGH = ("min", "max"), ("q01", "q99")
VALUES = hnp.arrays(np.float32, (3, 4), elements=st.floats(-8, 8, width=32))


def spread(low: str, high: str) -> Any:
    return getattr(MOMENTS, high) - getattr(MOMENTS, low)


def lerobot(x: Any, low: str, high: str) -> Any:
    wide = np.where(spread(low, high) == 0, 1e-8, spread(low, high))
    return 2 * (x - getattr(MOMENTS, low)) / wide - 1


FORMULAS = {
    "lerobot-mean-std": lambda x: (x - MOMENTS.mean) / (MOMENTS.std + 1e-8),
    "lerobot-min-max": lambda x: lerobot(x, "min", "max"),
    "lerobot-quantiles": lambda x: lerobot(x, "q01", "q99"),
    "openpi-quantile": lambda x: (x - MOMENTS.q01) / (spread("q01", "q99") + 1e-6) * 2 - 1,
    "openpi-z-score": lambda x: (x - MOMENTS.mean) / (MOMENTS.std + 1e-6),
}
INVERSES = {
    "lerobot-mean-std": lambda y: y * MOMENTS.std + MOMENTS.mean,
    "lerobot-min-max": lambda y: (y + 1) / 2 * spread("min", "max") + MOMENTS.min,
    "lerobot-quantiles": lambda y: (y + 1) / 2 * spread("q01", "q99") + MOMENTS.q01,
    "openpi-quantile": lambda y: (y + 1) / 2 * (spread("q01", "q99") + 1e-6) + MOMENTS.q01,
    "openpi-z-score": lambda y: y * (MOMENTS.std + 1e-6) + MOMENTS.mean,
}


def test_every_foreign_dialect_is_compared() -> None:
    foreign = {name for name in DIALECTS if not name.startswith("openvla")}
    assert set(FORMULAS) == set(INVERSES) == foreign


@pytest.mark.parametrize("name", FORMULAS)
@given(values=VALUES)
def test_a_dialect_is_its_formula(name: str, values: np.ndarray) -> None:
    rule = Normalization.model_validate(by_dialect(name))
    values[:, 2] = 3.0  # what never changes
    found = normalize(values, MOMENTS, rule)
    np.testing.assert_allclose(found, FORMULAS[name](values.astype(np.float64)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(unnormalize(found, MOMENTS, rule), INVERSES[name](found), rtol=1e-12)


@pytest.mark.parametrize("name", DIALECTS)
@given(values=VALUES)
def test_what_is_not_clipped_comes_back(name: str, values: np.ndarray) -> None:
    rule = Normalization.model_validate(by_dialect(name))
    if rule.clip and rule.method != "normal":
        low, high = (LOW, HIGH)[rule.method == "bounds_q99"]
        values = np.clip(values, getattr(MOMENTS, low), getattr(MOMENTS, high)).astype(np.float32)
    values[:, 2] = 3.0
    back = unnormalize(normalize(values, MOMENTS, rule), MOMENTS, rule)
    changing = [0, 1, 3]
    np.testing.assert_allclose(back[:, changing], values[:, changing], atol=1e-4)


def test_grippers_are_left_alone_by_openvla_and_by_nobody_else() -> None:
    values = np.array([[0, 0, 3, 0.75]], dtype=np.float32)
    for name in DIALECTS:
        found = normalize(values, MOMENTS, Normalization.model_validate(by_dialect(name)))
        assert (found[0, 3] == values[0, 3]) == name.startswith("openvla")


def test_a_recipe_names_a_dialect_or_gives_the_fields() -> None:
    def rule(given: Any) -> Normalization:
        policy = {"name": "openvla", "weights": "x", "normalization": given}
        recipe = Recipe.from_mapping({"output": "x", "policy": policy})
        found: Normalization = recipe.policy.normalization  # type: ignore[union-attr]
        assert Recipe.from_mapping(recipe.model_dump(mode="json")) == recipe
        return found

    assert rule("openpi-quantile") == Normalization(
        eps=1e-6, eps_back=True, clip=False, constant="low", mask=False
    )
    assert rule({"method": "normal"}) == Normalization(**DIALECTS["openvla-normal"])
    with pytest.raises(RecipeError, match=r"policy\.normalization: there .* Did you mean 'openpi-quantile'"):
        rule("openpi-quantil")
