"""``openvla show``: a recipe with every default filled in, or the schema of recipes."""

from __future__ import annotations

import json
import sys

import click

from openvla_toolkit.cli.overrides import checked_overrides
from openvla_toolkit.core.recipe import Recipe

__all__ = ["command"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY.PATH=VALUE]...")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of recipes instead, for editors.")
def command(*, recipe: str | None, overrides: tuple[str, ...], schema: bool) -> None:
    """Print RECIPE resolved: extended, overridden, with all defaults."""
    options = checked_overrides(overrides, options=("--schema", "--debug", "--help"))
    if schema == (recipe is not None):
        raise click.UsageError("give either a RECIPE or --schema.")
    if recipe is None:
        from openvla_toolkit.core.schema import recipe_schema

        _print(json.dumps(recipe_schema(), indent=2), "json")
    else:
        _print(Recipe.load(recipe, options).to_yaml(), "yaml")


def _print(text: str, language: str) -> None:
    """Print with colours on a terminal, and plainly everywhere else."""
    if not sys.stdout.isatty():
        click.echo(text.rstrip("\n"))
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, language, background_color="default", word_wrap=True))
