"""``openvla data convert``: write a data set as another kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from openvla_toolkit.cli.data.progress import Progress
from openvla_toolkit.cli.data.source import opened_settings, place, settings_of
from openvla_toolkit.cli.data.workers import chosen_executor, worker_options
from openvla_toolkit.core.locations import RemotePath

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="SRC", type=place)
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
@worker_options
@click.option(
    "--shard-frames", type=click.IntRange(min=1), default=20_000, show_default=True, help="Frames per shard."
)
def command(
    *,
    source: Path | RemotePath,
    destination: Path,
    to: str,
    read: Sequence[str],
    write: Sequence[str],
    executor: str,
    workers: int | None,
    shard_frames: int,
) -> None:
    """Write the data set in SRC to the folder DST, as the toolkit reads it, transforms applied.

    All splits are copied, and stay splits; with --read split=... only that part is, as the split train.
    Damaged data stop it; with --read on_error=skip damaged episodes are left out, counted and named.

    A conversion that was interrupted goes on where it was when it is started again. At the end the copy is
    read back: all numbers and texts, and three pictures of every episode and camera, must agree.
    """
    config = opened_settings(source, read)
    settings = settings_of(write)
    from openvla_toolkit.pipeline.convert import Job, convert

    job = Job(source=config, destination=destination, to=to, settings=settings, shard_frames=shard_frames)
    done = convert(job, executor=chosen_executor(executor, workers), report=Progress())
    found = done.difference
    click.echo(
        f"{destination}: {done.episodes} episodes, {done.frames} frames, {done.shards} shards", nl=False
    )
    click.echo(f" ({done.resumed} were there already)." if done.resumed else ".")
    if len(done.splits) > 1:
        click.echo(f"Splits: {_sizes(done.splits)}.")
    elif sum(done.source_splits.values()) > done.episodes + len(done.skipped):
        click.echo(f"Only a part was read, of {_sizes(done.source_splits)}: without 'split' all are copied.")
    for episode, reason in done.skipped:
        click.echo(f"Left out episode {episode}: {reason}")
    if done.skipped:
        total = done.episodes + len(done.skipped)
        click.echo(f"{len(done.skipped)} of {total} episodes are damaged and not in the copy.")
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


def _sizes(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in splits.items())


def _line(settings: dict[str, Any], name: str) -> str:
    words = [f"{key}: {value}" for key, value in ({"name": name} | settings).items()]
    return "{" + ", ".join(words) + "}"
