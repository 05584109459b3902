"""Write the episodes of one data set as another kind: in shards, in parallel, restartable, verified.

Everything goes to a folder beside the destination, ``.<name>.unfinished``, which one process at a time holds.
A shard counts when its report stands there, so that an interrupted conversion goes on where it was; the
folder takes the destination's name after the copy was read back and compared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import ContractMismatch, UserError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.storage import atomic_write_text, storage_errors
from openvla_toolkit.core.types import DataDescription, Episode
from openvla_toolkit.core.worker import InTurn
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig, DatasetWriter, WritePlan
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.pipeline.compare_copies import Difference, compare_episode
from openvla_toolkit.pipeline.conversion_source import Chosen, Measured, measure, split_ranges, whole
from openvla_toolkit.pipeline.index_pieces import Skipped

__all__ = ["Converted", "Job", "convert"]

REPORTS = ".shards"
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be written, from where, as what."""

    source: DatasetConfig
    """Where it chooses no split, all of them are copied, and stay splits."""
    destination: Path
    to: str
    """Name of the ``dataset`` component that the copy is for."""
    settings: Mapping[str, Any]
    """Of its writer."""
    shard_frames: int = 20_000
    """Frames per shard, the unit of parallel work and of restarting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What was done."""

    config: DatasetConfig
    episodes: int
    frames: int
    shards: int
    resumed: int
    """Shards that were there already."""
    difference: Difference
    """Of the pictures, as far as they were compared."""
    splits: Mapping[str, int]
    """Split of the copy -> episodes."""
    source_splits: Mapping[str, int]
    """Split of the source -> episodes, as far as it says so; the copy may be of a part."""
    skipped: Sequence[Skipped]
    """Damaged episodes that are not copied, as ``on_error: skip`` asks for."""


def convert(job: Job, *, executor: Executor | None = None, report: Report | None = None) -> Converted:
    """Do a conversion, or the rest of one, and check the copy.

    Args:
        executor: where shards are written and compared; None for this process.

    Raises:
        UserError: the destination exists or lies within the source, another process is writing it, or an
            unfinished conversion with other settings is in the way.
        ContractMismatch: the source holds no robot's episodes.
        DataError: the source is damaged, or the copy differs from it.
        StorageError: the disk is full or cannot be written.
    """
    job = replace(job, source=whole(job.source))
    _check_place(job)
    description = job.source.build().describe()
    if description.robot is None:
        raise ContractMismatch(f"{description.name} holds no robot's episodes; only these are converted.")
    _writer(job, _unmeasured(job, description))  # mistakes in the settings are told before anything is read
    destination = job.destination.absolute()
    folder = destination.with_name(f".{destination.name}.unfinished")
    with _held(folder):
        _check_place(job)  # whoever held the folder before may have finished it
        return _convert(job, description, folder, executor or InTurn(), report or (lambda *words: None))


def _check_place(job: Job) -> None:
    """Refuse a destination that is there already, or within the data that are read."""
    if job.destination.exists():
        raise UserError(f"{job.destination} exists already; remove it or choose another destination.")
    root = getattr(job.source, "root", None)
    if isinstance(root, Path) and job.destination.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{job.destination} lies within {root}, which is read and stays as it is: choose a destination "
            "outside of it, or name the data set's own folder as the source."
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it against other conversions; leave none behind that stayed empty."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as held:
        if held is False:
            raise UserError(
                f"another conversion is writing to {folder}: wait for it, or choose another destination."
            )
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()


def _convert(
    job: Job, description: DataDescription, folder: Path, workers: Executor, tell: Report
) -> Converted:
    measured = _measured(job, description, folder, workers, tell)
    plan = _plan(job, description, measured)
    writer = _writer(job, plan)
    paths = [folder / REPORTS / f"{shard:06d}.json" for shard in range(len(plan.shards))]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    opened = partial(_open, job, plan, folder, measured.positions)
    with closing(workers.map(_write_shard, missing, setup=opened)) as written:
        for done, (number, content) in enumerate(written, start=1):
            atomic_write_text(paths[missing[number]], json.dumps(content))
            tell("write", len(paths) - len(missing) + done, len(paths))
    with storage_errors(folder):
        writer.finish(folder, [json.loads(path.read_text()) for path in paths])
    difference = Difference()
    with closing(workers.map(_verify_shard, range(len(paths)), setup=opened)) as compared:
        for done, (_, found) in enumerate(compared, start=1):
            difference = difference.merged(found)
            tell("verify", done, len(paths))
    with storage_errors(job.destination):
        shutil.rmtree(folder / REPORTS)
        (folder / "plan.json").unlink()
        folder.rename(job.destination)
    return Converted(
        config=_reader(writer, job.destination, plan),
        episodes=len(plan.lengths),
        frames=sum(plan.lengths),
        shards=len(paths),
        resumed=len(paths) - len(missing),
        difference=difference,
        splits={name: stop - first for name, (first, stop) in plan.splits.items()},
        source_splits=description.splits,
        skipped=measured.skipped,
    )


def _measured(
    job: Job, description: DataDescription, folder: Path, workers: Executor, tell: Report
) -> Measured:
    """Read what an unfinished conversion has measured, or read all numbers once."""
    about = {
        "source": description.fingerprint,
        "on_error": job.source.on_error,
        "to": job.to,
        "settings": dict(job.settings),
        "shard_frames": job.shard_frames,
    }
    path = folder / "plan.json"
    if path.exists():
        content = json.loads(path.read_text())
        if content["about"] != about:
            raise UserError(
                f"{folder} holds an unfinished conversion with other settings or of other data; "
                "remove it, or choose another destination."
            )
        kept = content["measured"]
        return Measured(**kept | {"skipped": [Skipped(*one) for one in kept["skipped"]]})
    measured = measure(job.source, workers, partial(tell, "read"))
    atomic_write_text(path, json.dumps({"about": about, "measured": measured._asdict()}))
    return measured


def _unmeasured(job: Job, description: DataDescription) -> WritePlan:
    assert description.robot is not None
    return WritePlan(
        name=job.destination.absolute().name,
        robot=description.robot,
        cameras=list(description.cameras),
        lengths=[],
        instructions=[],
        keeps=False,
        splits={},
        shards=[],
    )


def _plan(job: Job, description: DataDescription, measured: Measured) -> WritePlan:
    splits = split_ranges(job.source, description, measured.positions)
    return replace(
        _unmeasured(job, description),
        lengths=measured.lengths,
        instructions=measured.instructions,
        keeps=measured.keeps,
        splits=splits,
        shards=_shards(measured.lengths, {stop for _, stop in splits.values()}, job.shard_frames),
    )


def _shards(lengths: Sequence[int], ends: set[int], frames: int) -> list[tuple[int, int]]:
    """Cut the episodes into consecutive shards, closed when they reach ``frames`` or the end of a split."""
    shards, first, held = [], 0, 0
    for position, length in enumerate(lengths, start=1):
        held += length
        if held >= frames or position in ends:
            shards.append((first, position))
            first, held = position, 0
    return shards


def _writer(job: Job, plan: WritePlan) -> DatasetWriter:
    target = load("dataset", job.to)
    assert issubclass(target, DatasetConfig)
    return target.writer(plan, job.settings)


def _reader(writer: DatasetWriter, folder: Path, plan: WritePlan) -> DatasetConfig:
    """Return the settings that train on the copy, on its first split where it has no ``train``."""
    config = writer.reader(folder)
    return config if "train" in plan.splits else config.model_copy(update={"split": next(iter(plan.splits))})


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a worker keeps from shard to shard."""

    job: Job
    plan: WritePlan
    folder: Path
    source: Dataset[Episode]


def _open(job: Job, plan: WritePlan, folder: Path, positions: Sequence[int]) -> _Opened:
    return _Opened(job, plan, folder, Chosen(job.source.build(), positions))


def _write_shard(mine: _Opened, shard: int) -> Mapping[str, Any]:
    with storage_errors(mine.folder):
        return _writer(mine.job, mine.plan).write(mine.source, shard, mine.folder)


def _verify_shard(mine: _Opened, shard: int) -> Difference:
    copy = whole(_writer(mine.job, mine.plan).reader(mine.folder)).build()
    found = Difference()
    for position in range(*mine.plan.shards[shard]):
        found = found.merged(compare_episode(mine.source, copy, position))
    return found
