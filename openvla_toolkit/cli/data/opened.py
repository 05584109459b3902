"""A data set of the command line, opened, indexed and measured, to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openvla_toolkit.cli.data.progress import Progress
from openvla_toolkit.cli.data.source import opened_settings, place
from openvla_toolkit.cli.data.workers import chosen_executor, worker_options
from openvla_toolkit.core.locations import RemotePath

if TYPE_CHECKING:
    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
    from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["Opened", "opened", "source_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Opened:
    """What the parts that look at data need."""

    config: DatasetConfig
    dataset: Dataset[Any]
    index: EpisodeIndex
    statistics: Statistics


def source_options(command: Command) -> Command:
    """Give a part the argument SRC and the options that say how it is read, and where the work is done."""
    source = click.argument("source", metavar="SRC", type=place)
    read = click.option(
        "--read", "-r", multiple=True, metavar="KEY=VALUE", help="Set how SRC is read, as in a recipe's data."
    )
    return source(read(worker_options(command)))


def opened(source: Path | RemotePath, read: Sequence[str], *, executor: str, workers: int | None) -> Opened:
    """Open what lies at ``source``; the index is built unless it is there.

    Damaged episodes are left out, as who looks at data wants to see all of them at once.

    Raises:
        ContractMismatch: it holds no robot's episodes.
        UserError: it is not recognised, or a word is wrong.
        DataError: nothing of it can be read.
    """
    config, work = opened_settings(source, read), chosen_executor(executor, workers)
    if "on_error" not in config.model_fields_set:
        config = config.model_copy(update={"on_error": "skip"})
    from openvla_toolkit.pipeline.statistics import compute_statistics
    from openvla_toolkit.stages.prepare import indexed

    progress = Progress()
    config.prepare(lambda done, total: progress(config.name, done, total))
    dataset = config.build()
    index = indexed(dataset, config, progress, executor=work)
    robot = dataset.describe().robot
    assert robot is not None
    return Opened(config, dataset, index, compute_statistics(index, robot, executor=work))
