"""``openvla data convert``: write a data set as another kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from openvla_toolkit.cli.data.source import opened_settings, settings_of

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("destination", metavar="DST", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="KIND", help="rlds, lerobot, or a plugin's kind of data set.")
@click.option(
    "--read", "-r", multiple=True, metavar="KEY=VALUE", help="Set how SRC is read, as in a recipe's data."
)
@click.option(
    "--write",
    "-w",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set how DST is written. lerobot: version (v3.0, v2.1), pictures (video, image), codec, crf, "
    "keyframe_every; rlds: version, pictures (jpeg, png).",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core unless given.")
@click.option(
    "--shard-frames", type=click.IntRange(min=1), default=20_000, show_default=True, help="Frames per shard."
)
def command(
    *,
    source: Path,
    destination: Path,
    to: str,
    read: Sequence[str],
    write: Sequence[str],
    workers: int | None,
    shard_frames: int,
) -> None:
    """Write the data set in SRC to the folder DST, as the toolkit reads it, transforms applied.

    A conversion that was interrupted goes on where it was when it is started again. At the end the copy is
    read back: all numbers and texts, and three pictures of every episode and camera, must agree.
    """
    config = opened_settings(source, read)
    settings = settings_of(write)
    from openvla_toolkit.pipeline.convert import Job, convert

    job = Job(source=config, destination=destination, to=to, settings=settings, shard_frames=shard_frames)
    done = convert(job, workers=workers or os.cpu_count() or 1, report=_Progress())
    found = done.difference
    click.echo(
        f"{destination}: {done.episodes} episodes, {done.frames} frames, {done.shards} shards", nl=False
    )
    click.echo(f" ({done.resumed} were there already)." if done.resumed else ".")
    click.echo(
        f"Verified: numbers and texts equal; {found.same} of {found.pictures} pictures identical", nl=False
    )
    click.echo(
        f", mean difference {found.mean:.2f} of 255, worst {found.worst:.2f}."
        if found.same < found.pictures
        else "."
    )
    click.echo(
        f"To train on it: data: [{_line(done.config.model_dump(mode='json', exclude_defaults=True), to)}]"
    )


def _line(settings: dict[str, Any], name: str) -> str:
    words = [f"{key}: {value}" for key, value in ({"name": name} | settings).items()]
    return "{" + ", ".join(words) + "}"


class _Progress:
    """Prints one line per step of ten percent."""

    def __init__(self) -> None:
        self._told: tuple[str, int] = ("", -1)

    def __call__(self, what: str, done: int, total: int) -> None:
        now = (what, 10 * done // max(total, 1))
        if now != self._told:
            self._told = now
            click.echo(f"{what} {done}/{total}", err=True)
