"""Which function standardises which data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from openvla_toolkit.interfaces.transform import Trajectory

__all__ = ["STANDARDIZATIONS", "Standardization", "standardizes"]

Standardization: TypeAlias = Callable[[Trajectory], Trajectory]

STANDARDIZATIONS: dict[str, Standardization] = {}
"""Data set -> function; complete once ``open_x.lookup`` is imported."""


def standardizes(*datasets: str) -> Callable[[Standardization], Standardization]:
    """Register a function for the data sets that it brings to the common convention."""

    def register(function: Standardization) -> Standardization:
        STANDARDIZATIONS.update(dict.fromkeys(datasets, function))
        return function

    return register
