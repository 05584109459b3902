"""From a template of a package to one file that needs no other."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from openvla_toolkit.core.pages.axes import number
from openvla_toolkit.core.storage import atomic_write_text

__all__ = ["duration", "embedded", "percent", "write_page"]


def write_page(target: Path, *, package: str, template: str, content: dict[str, Any]) -> None:
    """Fill in a template that lies in ``package`` and write it; it may include ``page.css``.

    Raises:
        StorageError: the page cannot be written.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("openvla_toolkit.core.pages", ".")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(number=number, duration=duration, percent=percent)
    atomic_write_text(target, environment.get_template(template).render(content))


def duration(seconds: float) -> str:
    """Return ``42 s``, ``3.1 min`` or ``2.2 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """Return ``87.0 %`` with a space that does not break."""
    return f"{100 * share:.1f}\u00a0%"


def embedded(jpeg: bytes) -> str:
    """Return a JPEG as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
