"""The click group: verbs from a static table and from plugins; a verb is imported when it runs."""

from __future__ import annotations

from importlib import import_module

import click

from openvla_toolkit import __version__
from openvla_toolkit.core.errors import BrokenComponent, did_you_mean
from openvla_toolkit.core.registry import commands, distribution_name, load_command

__all__ = ["VERBS", "openvla"]

VERBS = {
    "run": "Run the stages of a recipe: prepare, train, evaluate, export, benchmark.",
    "plan": "Predict memory and time of a training, and say what would make it fit.",
    "check": "Say whether recipes are valid.",
    "show": "Print a recipe with every default filled in, or the JSON Schema of recipes.",
    "data": "Index, measure, inspect, view, convert and download data sets.",
    "predict": "Print the action that a policy takes for a picture and an instruction.",
    "models": "List published models, describe one, convert checkpoints and verify them.",
    "plugins": "List installed components, or explain one.",
    "new": "Write a plugin package whose tests pass.",
    "doctor": "Say what is installed, what works and what is broken.",
}
"""Verb -> one line of help; the verb is ``command`` in the module of its name."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS, *sorted(set(commands()) - set(VERBS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in VERBS:
            command = import_module(f"openvla_toolkit.cli.{cmd_name}").command
        elif cmd_name in commands():
            command = load_command(cmd_name)
        else:
            near = did_you_mean(cmd_name, self.list_commands(ctx))
            raise click.UsageError(f"there is no verb '{cmd_name}'.{near}", ctx)
        if not isinstance(command, click.Command):
            package = distribution_name(commands()[cmd_name][0])
            raise BrokenComponent("verb", cmd_name, package, "it is not a click.Command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        strangers = [(name, _origin(name)) for name in self.list_commands(ctx) if name not in VERBS]
        if strangers:
            with formatter.section("Verbs of plugins"):
                formatter.write_dl(strangers)


def _origin(name: str) -> str:
    return ", ".join(f"from {distribution_name(entry)}" for entry in commands()[name])


@click.command(
    cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]}, subcommand_metavar="VERB ..."
)
@click.version_option(__version__, prog_name="openvla")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line).")
def openvla(*, debug: bool) -> None:
    """Take robot data to a trained, measured, exported policy; the recipe has the settings."""
