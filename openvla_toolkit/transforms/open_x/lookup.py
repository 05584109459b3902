"""From the name of a data set to its standardisation; importing this module registers all of them."""

from __future__ import annotations

from openvla_toolkit.core.errors import RecipeError, did_you_mean
from openvla_toolkit.transforms.open_x import bridge, droid, named_parts, named_states, padded, vectors
from openvla_toolkit.transforms.open_x.naming import STANDARDIZATIONS, Standardization

__all__ = ["MODULES", "standardization"]

MODULES = (bridge, droid, named_parts, named_states, padded, vectors)
"""Where the standardisations are written down."""


def standardization(dataset: str) -> Standardization:
    """Return the function that standardises a data set.

    Raises:
        RecipeError: there is none; suggests the nearest name.
    """
    if dataset not in STANDARDIZATIONS:
        raise RecipeError(
            f"Open X-Embodiment has no standardisation for '{dataset}'."
            f"{did_you_mean(dataset, STANDARDIZATIONS)} There are {len(STANDARDIZATIONS)}, each under the "
            "name of its data set.",
            path="dataset",
        )
    return STANDARDIZATIONS[dataset]
