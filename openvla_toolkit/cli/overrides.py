"""What stands after a recipe on the command line: ``key.path=value`` or ``--key.path=value``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from openvla_toolkit.core.errors import did_you_mean

__all__ = ["checked_overrides"]


def checked_overrides(words: Sequence[str], *, options: Sequence[str]) -> tuple[str, ...]:
    """Return the words when all are overrides; raises ``click.UsageError`` with what was meant."""
    for word in words:
        if "=" in word.removeprefix("--"):
            continue
        if word.startswith("-"):
            raise click.UsageError(f"there is no option '{word}'.{did_you_mean(word, options)}")
        raise click.UsageError(f"'{word}' is not of the form key.path=value.")
    return tuple(words)
