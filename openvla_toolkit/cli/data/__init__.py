"""``openvla data``: look after data sets; each part of the verb is imported when it runs."""

from __future__ import annotations

from importlib import import_module

import click

from openvla_toolkit.core.errors import did_you_mean

__all__ = ["PARTS", "command"]

PARTS = {
    "index": "Read a data set through once, check it, and keep its index.",
    "stats": "Measure actions and states, as dataset_statistics.json.",
    "inspect": "Print what is in a data set, and what to look after.",
    "view": "Write a page of film strips, curves and histograms.",
    "convert": "Write a data set as RLDS or LeRobot.",
    "download": "Fetch data sets of Open X-Embodiment by name.",
}
"""Part -> one line of help; the part is ``command`` in the module of its name."""


class _Parts(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in PARTS:
            raise click.UsageError(f"there is no '{cmd_name}'.{did_you_mean(cmd_name, PARTS)}", ctx)
        found: click.Command = import_module(f"openvla_toolkit.cli.data.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Parts"):
            formatter.write_dl(list(PARTS.items()))


@click.command(cls=_Parts, subcommand_metavar="PART ...")
def command() -> None:
    """Look after data sets: see, measure, fetch and convert them."""
