"""``openvla data stats``: measure a data set's actions and states."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openvla_toolkit.cli.data.opened import source_options
from openvla_toolkit.cli.data.progress import Progress
from openvla_toolkit.cli.data.source import opened_settings
from openvla_toolkit.cli.data.workers import chosen_executor
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.core.storage import atomic_write_text

if TYPE_CHECKING:
    from openvla_toolkit.core.contract import Interface
    from openvla_toolkit.core.statistics import Moments, Statistics

__all__ = ["command"]

FIGURES = ("min", "q01", "mean", "std", "q99", "max")


@click.command()
@source_options
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File to write the JSON to."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    source: Path | RemotePath,
    read: Sequence[str],
    output: Path | None,
    executor: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Print mean, standard deviation, extremes and the 1 % and 99 % quantiles of the data set in SRC.

    They are of the frames that are read: --read split=all takes all splits together, as the original does.
    The JSON is the original's dataset_statistics.json; a recipe takes it with data.0.statistics=FILE.
    """
    config, work = opened_settings(source, read), chosen_executor(executor, workers)
    from openvla_toolkit.pipeline.statistics import compute_statistics
    from openvla_toolkit.stages.prepare import indexed

    progress = Progress()
    config.prepare(lambda done, total: progress(config.name, done, total))
    dataset = config.build()
    index = indexed(dataset, config, progress, executor=work)
    description = dataset.describe()
    assert description.robot is not None
    statistics = compute_statistics(index, description.robot, executor=work)
    text = json.dumps({description.name: statistics.to_json()}, indent=2)
    if output is not None:
        atomic_write_text(output, text + "\n")
    if as_json:
        click.echo(text)
    else:
        click.echo("\n".join(_table(description.name, statistics, description.robot)))


def _table(name: str, statistics: Statistics, robot: Interface) -> Iterator[str]:
    yield f"{name}: {statistics.num_trajectories} episodes, {statistics.num_transitions} frames"
    vectors = (("action", statistics.action, robot.action), ("state", statistics.proprio, robot.state))
    for what, moments, dimensions in vectors:
        if moments is not None:
            named = [dimension.name for dimension in dimensions]
            yield ""
            yield from _rows(what, moments, named or [str(n) for n in range(len(moments.mean))])


def _rows(what: str, moments: Moments, names: Sequence[str]) -> Iterator[str]:
    width = max(len(name) for name in (what, *names))
    yield f"{what:{width}}" + "".join(f"{figure:>11}" for figure in FIGURES)
    for number, name in enumerate(names):
        figures = "".join(f"{getattr(moments, figure)[number]:11.4g}" for figure in FIGURES)
        yield f"{name:{width}}{figures}" + ("" if moments.mask[number] else "  as it is")
