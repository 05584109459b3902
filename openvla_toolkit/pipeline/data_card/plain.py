"""A data card as plain data, for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.pipeline.data_card.card import DataCard
from openvla_toolkit.pipeline.data_card.concerns import Concern

__all__ = ["plain"]


def plain(card: DataCard, concerns: Sequence[Concern]) -> dict[str, Any]:
    """Return card and concerns as what JSON knows; what is not finite becomes null."""
    figures: dict[str, Any] = _plain(card)
    return {**figures, "seconds": card.seconds, "concerns": _plain(concerns)}


def _plain(value: Any) -> Any:
    if isinstance(value, Statistics):
        return value.to_json()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {_key(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _key(key: Any) -> str:
    """Write the size of a picture (height, width) as people do."""
    return f"{key[1]}x{key[0]}" if isinstance(key, tuple) else str(key)
