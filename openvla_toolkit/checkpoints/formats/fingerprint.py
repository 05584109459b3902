"""Whether weights are those that an adapter was trained on, told by a few numbers of every tensor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openvla_toolkit.checkpoints.formats.content import Content, field, read_json
from openvla_toolkit.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BASE_FILE", "Fingerprint", "checked", "stored", "write"]

BASE_FILE = "adapter_base.json"
_SAMPLES = 16


class Fingerprint:
    """Collects what passes; numbers count as bfloat16, so a copy in that type is the same base."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def passing(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Hand on names and tensors, and look at them."""
        for name, value in tensors:
            flat = value.reshape(-1)
            some = flat[:: max(1, len(flat) // _SAMPLES)].bfloat16().float().tolist()
            self._seen[name] = f"{list(value.shape)} {some}"
            yield name, value

    def text(self) -> str:
        """Return the fingerprint of all that has passed, in whatever order."""
        lines = (f"{name} {seen}\n" for name, seen in sorted(self._seen.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def checked(base: Content, adapter: Path) -> Content:
    """Return the base's content; reading its tensors to the end finds out whether the adapter is for them.

    An adapter that does not say what it was trained on (the original's, peft's) is taken at its word.
    """
    expected = stored(adapter)
    if expected is None:
        return base

    def tensors() -> Iterator[tuple[str, Tensor]]:
        fingerprint = Fingerprint()
        yield from fingerprint.passing(base.tensors())
        if fingerprint.text() != expected:
            raise CheckpointError(
                f"{adapter} was trained on other weights than those of {base.place}, which have the same "
                "shapes: give the folder or name of the right ones as 'base'."
            )

    return replace(base, tensors=tensors, shapes=base.shapes or base.tensors)


def stored(adapter: Path) -> str | None:
    """Return the fingerprint of what an adapter was trained on; None where it does not say."""
    place = adapter / BASE_FILE
    return str(field(read_json(place), "fingerprint", str, place=place)) if place.is_file() else None


def write(folder: Path, fingerprint: str) -> None:
    """Leave the fingerprint of its base beside an adapter."""
    (folder / BASE_FILE).write_text(json.dumps({"fingerprint": fingerprint}) + "\n")
