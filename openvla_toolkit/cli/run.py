"""``openvla run``: the stages of a recipe, in order, in one process or in many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from openvla_toolkit.cli.overrides import checked_overrides
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.worker import end_with_the_launcher, is_launched

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.engine import EngineConfig
    from openvla_toolkit.interfaces.launcher import LauncherConfig

__all__ = ["command"]

_OPTIONS = ("--dry-run", "--resume", "--nproc", "--debug", "--help")


class _Run(click.Command):
    """Takes ``--resume`` with and without the word ``auto`` behind it, which says the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spelled = ["--resume" if word == "--resume=auto" else word for word in args]
        pairs = zip(spelled, ["", *spelled], strict=False)
        words = [word for word, before in pairs if (before, word) != ("--resume", "auto")]
        return super().parse_args(ctx, words)


@click.command(cls=_Run, context_settings={"ignore_unknown_options": True})
@click.argument("recipe")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY.PATH=VALUE]...")
@click.option(
    "--dry-run", is_flag=True, help="Validate, say what would be trained and what is missing, and stop."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run that lies in the output folder, begin anew where there is none (also '--resume "
    "auto').",
)
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Start this many processes on this machine, one for each GPU; in place of the recipe's launcher.",
)
def command(
    *, recipe: str, overrides: tuple[str, ...], dry_run: bool, resume: bool, nproc: int | None
) -> None:
    """Run the stages of RECIPE, a YAML file or PACKAGE:recipes/x.yaml."""
    checked = Recipe.load(recipe, checked_overrides(overrides, options=_OPTIONS))
    if not checked.stages:
        raise UserError(
            f"{recipe} asks for no stage; it has none of data, train, evaluate, export, benchmark."
        )
    from openvla_toolkit.stages.preflight import check_processes

    launcher = _launcher(checked, nproc)
    processes = Ranks.here().world_size if launcher is None else launcher.processes
    check_processes(checked, processes)
    first = Ranks.here().is_first
    if first and not is_launched():  # the launcher has said it
        click.echo(f"{recipe}: {', '.join(checked.stages)} -> {checked.output.resolve()}")
    if dry_run:
        _tell(checked, processes)
        return
    if launcher is not None:
        words = ["run", recipe, *overrides, *(["--resume"] if resume else []), *_debugging()]
        launcher.build().launch(words, recipe=checked)
        return
    from openvla_toolkit.stages.run_recipe import run

    end_with_the_launcher()
    result = run(checked, resume=resume)
    if first:
        report = result.output / "report.html"
        for label, path in (("policy", result.checkpoint), ("report", report if report.exists() else None)):
            if path is not None:
                click.echo(f"{label}: {path}")
        for line in result.summary:
            click.echo(line)


def _tell(recipe: Recipe, processes: int) -> None:
    """Print what a run would train, on what, and what is missing for it."""
    from openvla_toolkit.stages.preflight import check_recipe

    check_recipe(recipe)
    if recipe.train is None:
        return
    from openvla_toolkit.stages.planning.dry_run import foreseen

    for line in foreseen(recipe, processes):
        click.echo(line)


def _launcher(recipe: Recipe, nproc: int | None) -> LauncherConfig | None:
    """Return what starts the run's processes; None where this is the only one, or was started itself."""
    if Ranks.are_given():
        if nproc is not None:
            raise UserError(
                "--nproc starts processes, and this one was started already (the variable RANK is set): give "
                "--nproc or use torchrun, not both."
            )
        return None
    if nproc is None:
        return cast("LauncherConfig | None", recipe.launcher)
    if nproc == 1 or _is_for_one(recipe, nproc):
        return None
    return cast("LauncherConfig", load("launcher", "local").model_validate({"nproc": nproc}))


def _is_for_one(recipe: Recipe, nproc: int) -> bool:
    """Tell whether the engine trains in one process alone, and say so: it is chosen by one key, and the rest
    of the command line stays as it is."""
    if recipe.train is None or cast("EngineConfig", recipe.train.engine).distributed:
        return False
    click.echo(
        f"the engine '{recipe.train.engine.name}' trains in one process: one is started, not {nproc}; others "
        "spread the work (train.engine.name=ddp or fsdp).",
        err=True,
    )
    return True


def _debugging() -> list[str]:
    """Hand on the option that ``main`` has taken from the line."""
    return ["--debug"] if "--debug" in sys.argv else []
