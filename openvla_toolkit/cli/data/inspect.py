"""``openvla data inspect``: the data card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from openvla_toolkit.cli.data.opened import opened, source_options
from openvla_toolkit.core.locations import RemotePath

__all__ = ["command"]


@click.command()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    *,
    source: Path | RemotePath,
    read: Sequence[str],
    executor: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Print the data card of the data set in SRC: what is in it, and what to look after.

    Episodes, what transforms and filters take away, instructions, the range of every number, idle frames, the
    gripper, sizes of pictures. Whatever needs care is told with the lines of a recipe that mend it.
    """
    found = opened(source, read, executor=executor, workers=workers)
    from openvla_toolkit.pipeline.data_card.card import make_card
    from openvla_toolkit.pipeline.data_card.concerns import concerns
    from openvla_toolkit.pipeline.data_card.plain import plain

    card = make_card(found.config, found.dataset, found.index, found.statistics)
    if as_json:
        click.echo(json.dumps(plain(card, concerns(card)), indent=2))
        return
    from openvla_toolkit.cli.data.card_text import print_card

    print_card(card, concerns(card))
