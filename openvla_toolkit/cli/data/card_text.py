"""A data card for people: at most 80 columns, coloured where a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openvla_toolkit.pipeline.data_card.card import DataCard
from openvla_toolkit.pipeline.data_card.concerns import Concern
from openvla_toolkit.pipeline.data_card.facts import facts, title

__all__ = ["print_card"]

WIDTH = 80


def print_card(card: DataCard, concerns: Sequence[Concern]) -> None:
    """Print to stdout."""
    console = Console(highlight=False, markup=False)
    console.width = min(console.width, WIDTH)
    with console.capture() as captured:
        _write(console, card, concerns)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _write(console: Console, card: DataCard, concerns: Sequence[Concern]) -> None:
    console.print(Text(title(card), "bold"))
    console.print()
    known = Table.grid(padding=(0, 2))
    known.add_column(style="bold", no_wrap=True)
    known.add_column(overflow="fold")
    for label, lines in facts(card):
        known.add_row(label, Text("\n".join(lines)))
    console.print(known)
    console.print()
    console.print(_numbers(card))
    console.print(
        Text("ends: frames that repeat min or max; far: frames beyond 5 standard deviations", "dim")
    )
    for concern in concerns:
        console.print()
        console.print(Text.assemble(("! ", "bold yellow"), (concern.what, "yellow")))
        console.print(Padding(Text(concern.remedy), (0, 0, 0, 2)))
        if concern.lines:  # to be pasted as they are: never broken
            console.print(Text(f"    {concern.lines}", "green"), soft_wrap=True)
    console.print()
    count = len(concerns)
    console.print(f"{count} thing{'s' * (count != 1)} to look after." if count else "Nothing to look after.")


def _numbers(card: DataCard) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=18)
    for heading in ("min", "q01", "mean", "q99", "max", "std", "ends", "far"):
        table.add_column(heading, justify="right", no_wrap=True)
    for vector, measures in groupby(card.measures, key=lambda one: one.vector):
        table.add_row(Text(vector, "bold"))
        for one in measures:
            unit = "" if one.unit == "1" else f" [{one.unit}]"
            figures = [_short(getattr(one, key)) for key in ("min", "q01", "mean", "q99", "max", "std")]
            ends = "const" if one.constant else f"{100 * one.saturated:.1f}%"
            table.add_row(f"  {one.name}{unit}", *figures, ends, f"{one.outliers:,}" if one.outliers else "")
    return table


def _short(value: float) -> str:
    return f"{value:.3g}"
