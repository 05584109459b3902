"""``openvla check``: are these recipes valid?"""

from __future__ import annotations

import click

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.recipe import Recipe

__all__ = ["command"]


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
def command(*, recipes: tuple[str, ...]) -> int:
    """Validate each RECIPE without running it; exit code 2 when any has a mistake."""
    failed = 0
    for recipe in recipes:
        try:
            Recipe.load(recipe)
        except OpenVLAError as error:
            click.echo(str(error), err=True)
            failed = 2
        else:
            click.echo(f"ok  {recipe}")
    return failed
