"""``openvla plan``: does a training fit, and what would make it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from openvla_toolkit.cli.overrides import checked_overrides
from openvla_toolkit.core.recipe import Recipe

if TYPE_CHECKING:
    from openvla_toolkit.stages.planning.plan import Plan

__all__ = ["command"]

_OPTIONS = ("--gpu", "--gpus", "--text-tokens", "--json", "--debug", "--help")
_GB = 1e9


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("recipe")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY.PATH=VALUE]...")
@click.option(
    "--gpu",
    required=True,
    help="Memory of a device, such as 24GB (1e9 bytes each), or its name too, such as H100:80GB.",
)
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    help="How many there are; by default the launcher's, or the fewest that do for an engine that shards.",
)
@click.option(
    "--text-tokens",
    type=click.IntRange(min=1),
    default=48,
    show_default=True,
    help="Tokens of prompt and actions of a sample.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    *, recipe: str, overrides: tuple[str, ...], gpu: str, gpus: int | None, text_tokens: int, as_json: bool
) -> int:
    """Predict memory and time of the training of RECIPE from shapes alone; exit code 1 if it does not fit."""
    given = checked_overrides(overrides, options=_OPTIONS)
    first = Recipe.load(recipe, given)
    from openvla_toolkit.stages.planning.plan import Planner, device_of

    planner = Planner(device_of(gpu), text=text_tokens, told=_progress if sys.stderr.isatty() else None)
    made = planner.plan(first, gpus=gpus or planner.gpus(first))

    def load(more: Sequence[str]) -> Recipe:
        return Recipe.load(recipe, [*given, *more])

    changes = [] if made.largest else list(planner.switches(load, gpus=made.gpus))
    if sys.stderr.isatty():
        _progress("")
    if as_json:
        tried = [{"overrides": words, **other.to_json()} for words, other in changes]
        click.echo(json.dumps({**made.to_json(), "switches": tried}, indent=2))
    else:
        _tell(made)
        _advise(made, changes)
    return 0 if made.fits else 1


def _progress(line: str) -> None:
    """Write over the last line of a terminal."""
    click.echo(f"\r\033[K{line}", err=True, nl=False)


def _on(gpus: int) -> str:
    return f"on {gpus} GPU{'s' if gpus > 1 else ''}"


def _tell(made: Plan) -> None:
    foot, room = made.footprint, made.device.memory / _GB
    click.echo(f"policy      {made.parameters / 1e9:.3g} B parameters, {made.trained / 1e9:.3g} B trained")
    click.echo(
        f"per GPU     engine {made.engine}, {made.gpus} x {made.device.name} of {room:g} GB, {made.samples} "
        f"samples at a time x {made.passes}"
    )
    parts = ("weights", "optimizer", "gradients", "activations", "gathered", "overhead")
    for name in parts:
        click.echo(f"  {name:<11} {getattr(foot, name) / _GB:7.2f} GB")
    verdict = f"{'fits' if made.fits else 'does not fit'} {_on(made.gpus)}"
    click.echo(f"  {'peak':<11} {foot.total / _GB:7.2f} GB of {room:g}: {verdict}")
    click.echo(f"machine     {_machine(made)}")
    if made.step_seconds is None:
        click.echo(f"speed       not told: {made.untimed}")
    else:
        rate = made.samples * made.passes * made.gpus / made.step_seconds
        click.echo(
            f"time        {made.step_seconds:.2f} s a step, {rate:.1f} samples/s: an estimate, at 40 % of "
            f"the peak of {made.device.name}"
        )


def _machine(made: Plan) -> str:
    """Return what of its own memory a machine needs, at the start and later."""
    many = made.processes > 1
    readers = f"each of {made.processes} processes reads" if many else "the process reads"
    start = f"{made.read / _GB:.3g} GB of its memory at the start, when {readers} the whole policy"
    if not made.offloaded:
        return start
    each = f", {made.offloaded / _GB:.3g} GB for each GPU" if many else ""
    return f"{start}; {made.offloaded * made.processes / _GB:.3g} GB all the time, offloaded{each}"


def _advise(made: Plan, changes: Sequence[tuple[str, Plan]]) -> None:
    if made.largest:
        click.echo(
            f"largest     {made.largest} samples at a time fit {_on(made.gpus)} (train.batch.per_device)"
        )
        return
    click.echo("largest     not one sample fits; what helps, the training that changes least first:")
    for words, other in changes:
        total = other.footprint.total / _GB
        fits = f"fits {_on(other.gpus)}, largest {other.largest}" if other.largest else "still none fits"
        more = f"--nproc {other.gpus}" if other.gpus != made.gpus else ""
        what = " ".join(filter(None, (words, more)))
        fits += f", and {other.offloaded / _GB:.0f} GB of the CPU's memory" if other.offloaded else ""
        click.echo(f"  {what}: {total:.1f} GB with {other.samples} at a time; {fits}")
    if not any(other.largest for _, other in changes):
        click.echo(
            "  nothing that this recipe can have makes it fit: take a smaller model or larger devices."
        )
