"""Statistics of a data set's actions and states, in the original's JSON form, and what is computed with them.

Unlike the rest of ``core`` this module needs NumPy; light commands do not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.errors import ContractMismatch, DataError

__all__ = ["Moments", "Statistics", "normalize", "select_statistics", "unnormalize"]

_MOMENTS = ("mean", "std", "max", "min", "q01", "q99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Per-dimension figures [D] of one vector; ``mask`` is False where the numbers are left as they are."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    max: NDArray[np.float64]
    min: NDArray[np.float64]
    q01: NDArray[np.float64]
    q99: NDArray[np.float64]
    mask: NDArray[np.bool_]

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, place: str) -> Moments:
        """Read the original's form; a missing ``mask`` means that every dimension is normalised.

        Raises:
            DataError: a field is missing, no list of finite numbers (``mask``: of booleans), or not as long
                as the others; names it.
        """
        if not isinstance(data, Mapping):
            raise DataError(f"the statistics are {data!r}; {', '.join(_MOMENTS)} are expected.", key=place)
        missing = [key for key in _MOMENTS if key not in data]
        if missing:
            raise DataError(
                f"the statistics lack {', '.join(missing)}; they need {', '.join(_MOMENTS)}.", key=place
            )
        values = {key: _numbers(data[key], place=f"{place}.{key}") for key in _MOMENTS}
        width = len(values["mean"])
        mask = _switches(data.get("mask", [True] * width), place=f"{place}.mask")
        for key, row in {**values, "mask": mask}.items():
            if len(row) != width:
                raise DataError(f"has {len(row)} entries; 'mean' has {width}.", key=f"{place}.{key}")
        return cls(**values, mask=mask)

    def to_json(self) -> dict[str, list[float] | list[bool]]:
        """Return the original's form, mask included."""
        return {key: getattr(self, key).tolist() for key in (*_MOMENTS, "mask")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One entry of ``dataset_statistics.json`` (OpenVLA's ``norm_stats``)."""

    action: Moments
    proprio: Moments | None
    num_transitions: int
    num_trajectories: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, place: str) -> Statistics:
        """Read one entry; ``place`` names it in errors."""
        if not isinstance(data, Mapping) or "action" not in data:
            raise DataError("the statistics have no 'action' entry.", key=place)
        proprio = data.get("proprio")
        return cls(
            action=Moments.from_json(data["action"], place=f"{place}.action"),
            proprio=None if proprio is None else Moments.from_json(proprio, place=f"{place}.proprio"),
            num_transitions=_count(data.get("num_transitions", 0), place=f"{place}.num_transitions"),
            num_trajectories=_count(data.get("num_trajectories", 0), place=f"{place}.num_trajectories"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the original's form."""
        data: dict[str, Any] = {"action": self.action.to_json()}
        if self.proprio is not None:
            data["proprio"] = self.proprio.to_json()
        return {**data, "num_transitions": self.num_transitions, "num_trajectories": self.num_trajectories}


def select_statistics(statistics: Mapping[str, Statistics], key: str | None) -> Statistics:
    """Return the entry for ``key``; None is allowed when there is exactly one.

    Raises:
        ContractMismatch: unknown or ambiguous key; lists the keys with their dimensions.
    """
    if key is None and len(statistics) == 1:
        return next(iter(statistics.values()))
    if key is not None and key in statistics:
        return statistics[key]
    if not statistics:
        raise ContractMismatch(
            "this policy has no statistics of actions: it was never trained to act, or its checkpoint lacks "
            "dataset_statistics.json."
        )
    known = "; ".join(
        f"{name} ({len(entry.action.mean)}-D action, {entry.num_transitions} frames)"
        for name, entry in sorted(statistics.items())
    )
    problem = (
        f"no statistics named '{key}'" if key is not None else "unnorm_key is needed to choose the statistics"
    )
    raise ContractMismatch(f"{problem}. This policy has: {known}.")


def normalize(values: NDArray[Any], moments: Moments, rule: Normalization) -> NDArray[np.float32]:
    """Bring values [..., D] to the policy's range (facts: original ``normalize_action_and_proprio``).

    By default bounds rules map [low, high] to [-1, 1] and set dimensions whose minimum equals their maximum
    to 0, masked or not; dimensions with a False mask are otherwise left as they are.
    """
    x = values.astype(np.float32)
    if rule.method == "identity":
        return x
    mask = moments.mask | (not rule.mask)
    if rule.method == "normal":
        scaled = (x - moments.mean.astype(np.float32)) / _raised(moments.std.astype(np.float32), rule)
        return np.where(mask, scaled, x).astype(np.float32)
    low, high = _bounds(moments, rule)
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    scaled = 2 * (x - low32) / _raised(high32 - low32, rule) - 1
    if rule.clip:
        scaled = np.clip(scaled, -1, 1)
    chosen = np.where(mask, scaled, x)
    if rule.constant == "zero":
        chosen = np.where(moments.min == moments.max, np.float32(0), chosen)
    return chosen.astype(np.float32)


def unnormalize(values: NDArray[Any], moments: Moments, rule: Normalization) -> NDArray[np.float64]:
    """Bring a policy's answer [..., D] back to the embodiment's units.

    Unless the rule has ``eps_back`` this is done without eps, as the original decodes.
    """
    x = values.astype(np.float64)
    if rule.method == "identity":
        return x
    mask = moments.mask | (not rule.mask)
    if rule.method == "normal":
        spread = _raised(moments.std, rule) if rule.eps_back else moments.std
        return np.where(mask, x * spread + moments.mean, x)
    low, high = _bounds(moments, rule)
    spread = _raised(high - low, rule) if rule.eps_back else high - low
    return np.where(mask, 0.5 * (x + 1) * spread + low, x)


def _raised(spread: NDArray[Any], rule: Normalization) -> NDArray[Any]:
    """Add eps where the rule says, in the spread's own precision."""
    raised: NDArray[Any] = spread + spread.dtype.type(rule.eps)
    return raised if rule.eps_where == "always" else np.where(spread == 0, raised, spread)


def _numbers(data: Any, *, place: str) -> NDArray[np.float64]:
    try:
        row = np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"is {data!r}; a list of numbers is expected.", key=place) from error
    if row.ndim != 1 or not np.isfinite(row).all():
        raise DataError(f"is {data!r}; a list of finite numbers is expected.", key=place)
    return row


def _switches(data: Any, *, place: str) -> NDArray[np.bool_]:
    row = np.asarray(data) if isinstance(data, list | tuple | np.ndarray) else None
    if row is None or row.ndim != 1 or (row.dtype != np.bool_ and row.size):
        raise DataError(f"is {data!r}; a list of true and false is expected.", key=place)
    return row.astype(np.bool_)


def _count(data: Any, *, place: str) -> int:
    if not isinstance(data, int | np.integer) or data < 0:
        raise DataError(f"is {data!r}; a whole number is expected.", key=place)
    return int(data)


def _bounds(moments: Moments, rule: Normalization) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if rule.method == "bounds":
        return moments.min, moments.max
    return moments.q01, moments.q99
