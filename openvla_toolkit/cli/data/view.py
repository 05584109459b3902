"""``openvla data view``: a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from openvla_toolkit.cli.data.opened import opened, source_options
from openvla_toolkit.core.locations import RemotePath

__all__ = ["command"]


@click.command()
@source_options
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page to write; one that is there is replaced.",
)
@click.option(
    "--episodes", type=click.IntRange(min=1), default=8, show_default=True, help="How many are shown."
)
def command(
    *,
    source: Path | RemotePath,
    read: Sequence[str],
    executor: str,
    workers: int | None,
    output: Path,
    episodes: int,
) -> None:
    """Write one HTML file about the data set in SRC, to be opened in a browser; it needs no network.

    The data card with what to look after, histograms, and of some episodes film strips, curves of action and
    state, the gripper, and how each action reads back from its token.
    """
    found = opened(source, read, executor=executor, workers=workers)
    from openvla_toolkit.pipeline.data_card.card import make_card
    from openvla_toolkit.pipeline.data_view.page import write_view

    card = make_card(found.config, found.dataset, found.index, found.statistics)
    write_view(output, card=card, dataset=found.dataset, index=found.index, episodes=episodes)
    click.echo(f"{output}: {min(episodes, card.episodes)} episodes, {output.stat().st_size / 1e6:.1f} MB")
