"""Index and statistics: reading every record once, and the figures of a million frames."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.data.generated import large_rlds_set, scratch
from benchmarks.data.synthetic import ROBOT, Synthetic
from benchmarks.rows import Row, interleaved, spread
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics

__all__ = ["measure"]

MILLION = 1_000_000
REPEATS = 5
PEAK = """
import sys
from pathlib import Path
from benchmarks.data.indexing import index_synthetic
index_synthetic(int(sys.argv[1]), Path(sys.argv[2]))
"""


def measure() -> list[Row]:
    """Measure index and statistics in a folder of their own."""
    with scratch() as folder:
        return [*_index_rows(folder), _statistics_row(folder), *_ten_million_rows(folder)]


def _index_rows(folder: Path) -> list[Row]:
    dataset = large_rlds_set().build()
    files = [Path(file) for file in dataset.describe().files]
    megabytes = sum(file.stat().st_size for file in files) / 1e6

    def index() -> None:
        build_index(dataset, folder / "index")
        shutil.rmtree(folder / "index")

    def cat() -> None:
        subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)

    rows = []
    for state, prepare in (("not in memory", partial(_evict, files)), ("in memory", _nothing)):
        calls = {name: _rate(call, prepare, megabytes) for name, call in (("ours", index), ("cat", cat))}
        figures = interleaved(calls, repeats=REPEATS)
        ours, peer = (statistics.median(figures[name]) for name in ("ours", "cat"))
        target = 0.9 if state == "not in memory" else None
        row = Row(
            name=f"index of RLDS shards, {megabytes:.0f} MB, {state}",
            value=ours,
            unit="MB/s",
            peer="cat to /dev/null",
            peer_value=peer,
            target="" if target is None else f"ratio >= {target} (disk speed)",
            met=None if target is None else ours / peer >= target,
            settings={
                "processes": 1,
                "figure": "median",
                "spread": spread(figures["ours"]),
                "peer_spread": spread(figures["cat"]),
                "repeats": REPEATS,
                "order": "interleaved",
            },
        )
        rows.append(row)
    return rows


def _rate(call: Callable[[], None], prepare: Callable[[], None], megabytes: float) -> Callable[[], float]:
    def megabytes_per_second() -> float:
        prepare()
        began = time.perf_counter()
        call()
        return megabytes / (time.perf_counter() - began)

    return megabytes_per_second


def _evict(files: Sequence[Path]) -> None:
    """Have the system forget what it keeps of files, so that they are read from the disk."""
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _nothing() -> None:
    pass


def _statistics_row(folder: Path) -> Row:
    index = build_index(Synthetic(MILLION), folder / "million")

    def ours() -> float:
        for cached in index.folder.glob("statistics.*"):
            cached.unlink()
        began = time.perf_counter()
        compute_statistics(index, ROBOT)
        return time.perf_counter() - began

    figures = interleaved({"ours": ours, "peer": partial(_numpy_statistics, index)}, repeats=REPEATS)
    value, peer = (statistics.median(figures[name]) for name in ("ours", "peer"))
    return Row(
        name="statistics of 1,000,000 frames x 14 numbers",
        value=value,
        unit="s",
        peer="NumPy on all numbers in memory",
        peer_value=peer,
        target="<= 60 s",
        met=value <= 60,
        settings={
            "processes": 1,
            "figure": "median",
            "spread": spread(figures["ours"]),
            "peer_spread": spread(figures["peer"]),
            "repeats": REPEATS,
            "order": "interleaved",
        },
    )


def _numpy_statistics(index: EpisodeIndex) -> float:
    began = time.perf_counter()
    for column in (index.actions, index.states):
        numbers = np.asarray(column, dtype=np.float64)
        (
            numbers.mean(0),
            numbers.std(0),
            numbers.min(0),
            numbers.max(0),
            np.quantile(numbers, [0.01, 0.99], 0),
        )
    return time.perf_counter() - began


def _ten_million_rows(folder: Path) -> list[Row]:
    """Index ten million frames and one million, each in a fresh process: memory must not follow the size."""
    sizes = {"ten": 10 * MILLION, "one": MILLION}
    found = {name: _indexed_alone(frames, folder / name) for name, frames in sizes.items()}
    settings = {"figure": "one measurement", "episode": Synthetic(MILLION).length, "numbers per frame": 14}
    names = ("time to index 10,000,000 frames", "peak memory of indexing 10,000,000 frames")
    addresses = EpisodeIndex(folder / "ten" / "index").images["primary"]
    return [
        Row(
            name=name,
            value=found["ten"][number],
            unit=unit,
            peer="1,000,000 frames",
            peer_value=found["one"][number],
            target=target,
            met=met,
            settings=settings,
        )
        for number, (name, unit, target, met) in enumerate(
            [
                (names[0], "s", "", None),
                (names[1], "MB", "ratio <= 1.5", found["ten"][1] <= 1.5 * found["one"][1]),
            ]
        )
    ] + [
        Row(
            name="index, bytes per frame and view",
            value=addresses.nbytes / len(addresses),
            unit="bytes",
            peer="a file name and an offset as Python objects",
            peer_value=sys.getsizeof("shard-00000") + sys.getsizeof(2**40),
            target="<= 16 bytes",
            met=addresses.nbytes <= 16 * len(addresses),
            settings={"frames": len(addresses)},
        )
    ]


def _indexed_alone(frames: int, folder: Path) -> tuple[float, float]:
    """Return seconds and peak MB of a process that indexes so many frames."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(frames), str(folder / "index")],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def index_synthetic(frames: int, folder: Path) -> None:
    """Index synthetic frames and print seconds and the peak of this process's memory in MB."""
    began = time.perf_counter()
    build_index(Synthetic(frames), folder)
    seconds = time.perf_counter() - began
    # Not ru_maxrss: that knows the process which started this one as well.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    print(seconds, int(peak) / 1e3)
