"""The tables of the catalog, read once."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from openvla_toolkit.core.errors import UserError, did_you_mean

__all__ = ["entry", "table"]


@lru_cache
def table(name: str) -> dict[str, Any]:
    """Return the table ``name`` (``vision_backbones``) of the catalog; not to be changed by the caller."""
    import yaml

    text = (files("openvla_toolkit") / "catalog" / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def entry(entries: dict[str, Any], name: str, *, what: str) -> Any:
    """Return the entry of that name.

    Raises:
        UserError: there is none; lists the names and proposes the nearest.
    """
    if name not in entries:
        raise UserError(
            f"there is no {what} '{name}'.{did_you_mean(name, entries)} Known: {', '.join(entries)}."
        )
    return entries[name]
