"""``openvla data download``: fetch data sets of Open X-Embodiment by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openvla_toolkit.cli.data.progress import Progress
from openvla_toolkit.cli.data.workers import chosen_executor, worker_options

if TYPE_CHECKING:
    from openvla_toolkit.downloads.parcels import Parcel

__all__ = ["command"]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--to", type=click.Path(path_type=Path), help="The folder that holds data sets.")
@click.option("--version", help="The version; the one that the catalog names unless given.")
@click.option(
    "--shards", type=click.IntRange(min=1), help="Only so many shards of every split, from the first on."
)
@click.option(
    "--source", metavar="URL", help="Fetch from a mirror: https://..., gs://..., s3://..., a folder."
)
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@worker_options
def command(
    *,
    names: Sequence[str],
    to: Path | None,
    version: str | None,
    shards: int | None,
    source: str | None,
    dry_run: bool,
    as_json: bool,
    executor: str,
    workers: int | None,
) -> None:
    """Fetch the data sets NAME, or all those of the mixture NAME; without a NAME, list what there is.

    What is there already is not fetched again, and an interrupted file goes on where it was. Sizes are
    checked, and checksums where the source has them.
    """
    from openvla_toolkit.downloads.published import members, published_names

    if not names:
        click.echo("\n".join(published_names()))
        return
    if to is None:
        raise click.UsageError("--to is needed: the folder that holds data sets.")
    from openvla_toolkit.downloads.download import check_space, download
    from openvla_toolkit.downloads.parcels import Order, pack

    wanted = dict.fromkeys(member for name in names for member in members(name))
    orders = [Order(name=name, to=to, version=version, shards=shards, source=source) for name in wanted]
    parcels = [pack(order) for order in orders]
    if dry_run:
        _tell(parcels, as_json=as_json)
        check_space(parcels)
        return
    progress = Progress()
    download(
        parcels,
        chosen_executor(executor, workers),
        lambda done, total: progress("fetched MB", done // 10**6, total // 10**6),
    )
    _tell(parcels, as_json=as_json)


def _tell(parcels: Sequence[Parcel], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_figures(parcel) for parcel in parcels], indent=2))
        return
    for parcel in parcels:
        click.echo(f"{parcel.folder}: {_amount(parcel)}")
        click.echo(f"  from {parcel.place}/{parcel.inside}")
        if parcel.note:
            click.echo(f"  note: {parcel.note}")
        if not parcel.missing:
            click.echo(f"  next: openvla data inspect {parcel.folder.parent}{_split(parcel)}")


def _figures(parcel: Parcel) -> dict[str, Any]:
    return {
        "name": parcel.name,
        "version": parcel.version,
        "folder": str(parcel.folder),
        "source": f"{parcel.place}/{parcel.inside}",
        "files": len(parcel.files),
        "bytes": parcel.size,
        "missing_bytes": parcel.missing,
        "checksums": parcel.checked,
        "episodes": {name: taken.episodes for name, taken in parcel.splits.items()},
        "episodes_of": {name: taken.of for name, taken in parcel.splits.items()},
    }


def _amount(parcel: Parcel) -> str:
    episodes = ", ".join(
        f"{taken.episodes:,} episodes of {name}" + f" (of {taken.of:,})" * (taken.episodes < taken.of)
        for name, taken in parcel.splits.items()
    )
    left = f", {parcel.missing / 1e9:.2f} GB still to be fetched" if parcel.missing else ""
    check = "checksums agree" if parcel.checked else "sizes agree, the source has no checksums"
    state = left or f"; {check}"
    return f"{len(parcel.files):,} shards, {parcel.size / 1e9:.2f} GB, {episodes}{state}"


def _split(parcel: Parcel) -> str:
    """Return the words that read the part that is there."""
    if parcel.whole:
        return ""
    split, taken = next(iter(parcel.splits.items()))
    return f" --read 'split={split}[:{taken.episodes}]'"
