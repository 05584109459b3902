"""Settings beside a checkpoint: what was given must be what the checkpoint was made with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.policies import OpenVLAConfig

__all__ = ["agree"]

_FREE = ("name", "weights", "freeze", "projector_std", *OpenVLAConfig.execution)
"""Settings that say nothing about what is in the checkpoint."""

_FRESH = ("pretrained", "init_std", "position_std", "embedding_std", "output_std")
"""Settings of a backbone that say where numbers come from when there is no checkpoint."""


def agree(given: OpenVLAConfig, stored: OpenVLAConfig, *, place: str, assumed: Collection[str] = ()) -> None:
    """Check that every setting given explicitly has the checkpoint's value.

    Args:
        assumed: settings that the checkpoint does not state.

    Raises:
        CheckpointError: one has not, or asks for fresh numbers; names the setting.
    """
    for path, ours, theirs in _fresh(given, stored):
        if ours and ours != theirs:
            raise CheckpointError(
                f"policy.{path} is {ours!r}, but the weights of {place} bring their own numbers; "
                "leave the setting out, or train from scratch without 'weights'."
            )
    for key in given.model_fields_set - {*_FREE, *assumed}:
        value = getattr(given, key)
        if value is not None:
            for path, ours, theirs in _differences(key, _plain(value), _plain(getattr(stored, key))):
                raise CheckpointError(
                    f"policy.{path} is {ours!r}, but the checkpoint {place} was made with {theirs!r}; "
                    "leave the setting out, or train from scratch without 'weights'."
                )


def _fresh(given: OpenVLAConfig, stored: OpenVLAConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield path and both values of every setting that makes fresh numbers."""
    yield "projector_std", given.projector_std, stored.projector_std
    for part in ("vision_backbone", "language_model"):
        for key in _FRESH:
            ours, theirs = (getattr(getattr(config, part), key, None) for config in (given, stored))
            yield f"{part}.{key}", ours, theirs


def _plain(value: Any) -> Any:
    """Return plain data, of backbones only their architecture."""
    if isinstance(value, ComponentConfig):
        architecture = getattr(value, "architecture", None)
        return (value if architecture is None else architecture()).model_dump(mode="json")
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _differences(path: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(f"{path}.{key}", ours.get(key), theirs.get(key))
    elif ours != theirs:
        yield path, ours, theirs
