"""``openvla data index``: read a data set through and keep what training needs of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from openvla_toolkit.cli.data.opened import source_options
from openvla_toolkit.cli.data.progress import Progress
from openvla_toolkit.cli.data.source import opened_settings
from openvla_toolkit.cli.data.workers import chosen_executor
from openvla_toolkit.core.locations import RemotePath

__all__ = ["command"]

SHOWN = 5
"""Skipped episodes that are printed with their reason."""


@click.command()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    source: Path | RemotePath,
    read: Sequence[str],
    executor: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Read the data set in SRC once, check every episode, and keep its index for the runs to come.

    Pictures stay where they are; of a data set that did not change, nothing is read again. Damaged episodes
    are an error, or are left out with --read on_error=skip.
    """
    config, work = opened_settings(source, read), chosen_executor(executor, workers)
    from openvla_toolkit.pipeline.index import index_folder
    from openvla_toolkit.stages.prepare import cache_folder, indexed

    progress = Progress()
    config.prepare(lambda done, total: progress(config.name, done, total))
    dataset = config.build()
    description = dataset.describe()
    was_there = index_folder(cache_folder() / "index", description).exists()
    began = time.perf_counter()
    index = indexed(dataset, config, progress, executor=work)
    seconds = time.perf_counter() - began
    found = {
        "name": description.name,
        "index": str(index.folder),
        "index_bytes": sum(path.stat().st_size for path in index.folder.iterdir()),
        "episodes": index.episodes,
        "frames": index.frames,
        "samples": index.frames if index.samples is None else len(index.samples),
        "instructions": len(index.instructions),
        "files": len(description.files),
        "bytes": _bytes(description.files),
        "was_there": was_there,
        "seconds": round(seconds, 3),
        "skipped": [one._asdict() for one in index.skipped],
    }
    click.echo(json.dumps(found, indent=2) if as_json else _text(found))


def _bytes(files: Sequence[str]) -> int | None:
    """Return the size of the files; None where not all of them lie on this machine."""
    paths = [Path(file) for file in files]
    return sum(path.stat().st_size for path in paths) if all(path.is_file() for path in paths) else None


def _text(found: dict[str, Any]) -> str:
    size = found["bytes"]
    of = f"{found['files']} files" if size is None else f"{size / 1e6:.1f} MB in {found['files']} files"
    rate = "" if size is None else f" ({size / 1e6 / max(found['seconds'], 1e-3):.0f} MB/s)"
    made = "was there already" if found["was_there"] else f"made in {found['seconds']:.1f} s{rate}"
    lines = [
        f"{found['name']}: {found['episodes']} episodes, {found['frames']} frames, {of}",
        f"index: {found['index']}, {found['index_bytes'] / 1e6:.2f} MB, {made}",
    ]
    if found["samples"] != found["frames"]:
        lines.append(f"samples: {found['samples']}; transforms leave out the other frames")
    if skipped := found["skipped"]:
        lines.append(f"skipped: {len(skipped)} of {len(skipped) + found['episodes']} episodes")
        lines += [f"  {one['episode']}: {one['reason']}" for one in skipped[:SHOWN]]
        lines += [f"  and {len(skipped) - SHOWN} more (--json has all)"] if len(skipped) > SHOWN else []
    return "\n".join(lines)
