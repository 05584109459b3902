"""Write the episodes of one data set as another kind: in shards, in parallel, restartable, verified.

Everything goes to a folder beside the destination, ``.<name>.unfinished``. A shard counts when its report
stands there, so that an interrupted conversion goes on where it was; the folder takes the destination's name
after the copy was read back and compared.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from openvla_toolkit.core.errors import ContractMismatch, OpenVLAError, UserError
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.storage import atomic_write_text, storage_errors
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig, DatasetWriter, WritePlan
from openvla_toolkit.pipeline.compare_copies import Difference, compare_episode

__all__ = ["Converted", "Job", "convert"]

REPORTS = ".shards"
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be written, from where, as what."""

    source: DatasetConfig
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


def convert(job: Job, *, workers: int = 1, report: Report | None = None) -> Converted:
    """Do a conversion, or the rest of one, and check the copy.

    Raises:
        UserError: the destination exists, or an unfinished conversion with other settings is in the way.
        ContractMismatch: the source holds no robot's episodes.
        DataError: the source is damaged, or the copy differs from it.
        StorageError: the disk is full or cannot be written.
    """
    tell = report or (lambda what, done, total: None)
    destination = job.destination.absolute()
    if destination.exists():
        raise UserError(f"{destination} exists already; remove it or choose another destination.")
    folder = destination.with_name(f".{destination.name}.unfinished")
    plan = _plan(job, folder, tell)
    writer = _writer(job, plan)
    paths = [folder / REPORTS / f"{shard:06d}.json" for shard in range(len(plan.shards))]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    with _workers(job, plan, folder, workers) as run:
        for done, (shard, content) in enumerate(run(_write_shard, missing), start=1):
            atomic_write_text(paths[shard], json.dumps(content))
            tell("write", len(paths) - len(missing) + done, len(paths))
    with storage_errors(folder):
        writer.finish(folder, [json.loads(path.read_text()) for path in paths])
    difference = Difference()
    with _workers(job, plan, folder, workers) as run:
        for done, (_, found) in enumerate(run(_verify_shard, list(range(len(paths)))), start=1):
            difference = difference.merged(Difference(**found))
            tell("verify", done, len(paths))
    with storage_errors(destination):
        shutil.rmtree(folder / REPORTS)
        (folder / "plan.json").unlink()
        folder.rename(destination)
    return Converted(
        config=writer.reader(job.destination),
        episodes=len(plan.lengths),
        frames=sum(plan.lengths),
        shards=len(paths),
        resumed=len(paths) - len(missing),
        difference=difference,
    )


def _plan(job: Job, folder: Path, tell: Report) -> WritePlan:
    """Read the plan of an unfinished conversion, or make one by reading all numbers once."""
    source = job.source.build()
    description = source.describe()
    if description.robot is None:
        raise ContractMismatch(f"{description.name} holds no robot's episodes; only these are converted.")
    about = {
        "source": description.fingerprint,
        "to": job.to,
        "settings": dict(job.settings),
        "shard_frames": job.shard_frames,
    }
    path = folder / "plan.json"
    plan = WritePlan(
        name=job.destination.absolute().name,
        robot=description.robot,
        cameras=list(description.cameras),
        lengths=[],
        instructions=[],
        keeps=False,
        shards=[],
    )
    _writer(job, plan)  # mistakes in the settings are told before anything is read
    if path.exists():
        content = json.loads(path.read_text())
        if content["about"] != about:
            raise UserError(
                f"{folder} holds an unfinished conversion with other settings or of other data; "
                "remove it, or choose another destination."
            )
        measured = _Measured(**content["measured"])
    else:
        measured = _measure(source, tell)
    if not path.exists():
        atomic_write_text(path, json.dumps({"about": about, "measured": measured._asdict()}))
    return replace(plan, **measured._asdict(), shards=_shards(measured.lengths, job.shard_frames))


class _Measured(NamedTuple):
    """What is known once all numbers were read."""

    lengths: list[int]
    instructions: list[str]
    keeps: bool


def _measure(source: Dataset[Episode], tell: Report) -> _Measured:
    lengths: list[int] = []
    instructions: dict[str, None] = {}
    keeps = False
    for position in range(len(source)):
        episode = source[position]
        lengths.append(len(episode))
        instructions |= dict.fromkeys(episode.instructions)
        keeps |= episode.keep is not None
        tell("read", position + 1, len(source))
    return _Measured(lengths, list(instructions), keeps)


def _shards(lengths: Sequence[int], frames: int) -> list[tuple[int, int]]:
    """Cut the episodes into consecutive shards that are closed when they reach ``frames``."""
    shards, first, held = [], 0, 0
    for position, length in enumerate(lengths, start=1):
        held += length
        if held >= frames or position == len(lengths):
            shards.append((first, position))
            first, held = position, 0
    return shards


def _writer(job: Job, plan: WritePlan) -> DatasetWriter:
    target = load("dataset", job.to)
    assert issubclass(target, DatasetConfig)
    return target.writer(plan, job.settings)


@dataclass(frozen=True, slots=True)
class _Worker:
    """What a process keeps from shard to shard."""

    job: Job
    plan: WritePlan
    folder: Path
    source: Dataset[Episode]


_mine: list[_Worker] = []
Work = Callable[[int], Mapping[str, Any]]


@contextmanager
def _workers(
    job: Job, plan: WritePlan, folder: Path, count: int
) -> Iterator[Callable[[Work, Sequence[int]], Iterator[tuple[int, Mapping[str, Any]]]]]:
    """Give a map over shards, in this process or in several spawned ones; results come as they are done."""
    if count == 1:
        _open(job, plan, folder)
        try:
            yield lambda work, shards: ((shard, work(shard)) for shard in shards)
        finally:
            _mine.clear()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_open, initargs=(job, plan, folder))

    def run(work: Work, shards: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        futures = {pool.submit(work, shard): shard for shard in shards}
        for future in as_completed(futures):
            yield futures[future], future.result()

    try:
        yield run
    except BrokenProcessPool as error:
        raise OpenVLAError(
            f"a process that converts died ({error}). Start again: what is done stays done; "
            "with one worker all happens in one process."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _open(job: Job, plan: WritePlan, folder: Path) -> None:
    _mine[:] = [_Worker(job, plan, folder, job.source.build())]


def _write_shard(shard: int) -> Mapping[str, Any]:
    (mine,) = _mine
    with storage_errors(mine.folder):
        return _writer(mine.job, mine.plan).write(mine.source, shard, mine.folder)


def _verify_shard(shard: int) -> Mapping[str, Any]:
    (mine,) = _mine
    copy = _writer(mine.job, mine.plan).reader(mine.folder).build()
    found = Difference()
    for position in range(*mine.plan.shards[shard]):
        found = found.merged(compare_episode(mine.source, copy, position))
    return asdict(found)
