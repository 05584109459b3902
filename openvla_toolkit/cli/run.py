"""``openvla run``: the stages of a recipe, in order."""

from __future__ import annotations

import os

import click

from openvla_toolkit.cli.overrides import checked_overrides
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.recipe import Recipe

__all__ = ["command"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("recipe")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY.PATH=VALUE]...")
@click.option("--dry-run", is_flag=True, help="Validate, say what would run, and stop.")
@click.option("--resume", is_flag=True, help="Continue the run that lies in the output folder.")
def command(*, recipe: str, overrides: tuple[str, ...], dry_run: bool, resume: bool) -> None:
    """Run the stages of RECIPE, a YAML file or PACKAGE:recipes/x.yaml."""
    checked = Recipe.load(
        recipe, checked_overrides(overrides, options=("--dry-run", "--resume", "--debug", "--help"))
    )
    if not checked.stages:
        raise UserError(
            f"{recipe} asks for no stage; it has none of data, train, evaluate, export, benchmark."
        )
    if os.environ.get("RANK", "0") == "0":
        click.echo(f"{recipe}: {', '.join(checked.stages)} -> {checked.output.resolve()}")
    if dry_run:
        return
    from openvla_toolkit.stages.run_recipe import run

    result = run(checked, resume=resume)
    if os.environ.get("RANK", "0") == "0":
        report = result.output / "report.html"
        for label, path in (("policy", result.checkpoint), ("report", report if report.exists() else None)):
            if path is not None:
                click.echo(f"{label}: {path}")
        for line in result.summary:
            click.echo(line)
