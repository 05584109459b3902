"""What a global shuffle costs: memory of 256,000 frames, time to the first batch, picks of 10 million."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.data.generated import data_folder, scratch
from benchmarks.data.throughput import Stacked
from benchmarks.rows import Row, interleaved, spread
from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.registry import load
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import Dataset, FeaturesDict, Image, Tensor, Text
from openvla_toolkit.datasets.rlds.writer import RLDSWriter, serialize_episode
from openvla_toolkit.embodiments import CustomConfig
from openvla_toolkit.pipeline.loader import Batch, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.stages.prepare import prepare

__all__ = ["PARTS", "first_batches", "measure", "mixture", "run_through"]

PARTS = {"half": 1280, "third": 896, "rest": 384}
"""Data set -> episodes."""
LENGTH, SIZE = 100, 64
BATCH, DRAWN = 256, 64_000
MILLIONS = (6_000_000, 3_000_000, 1_000_000)
LIMIT_MB, LIMIT_S = 300, 3.0
GROWTH = """
import re, sys
from pathlib import Path
from benchmarks.data.memory import first_batches, run_through

def kilobytes(name):
    return int(re.search(rf"^{name}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.M)[1])

run_through(batches=1, parts=1)  # libraries and what is loaded once do not count
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
run_through(batches=int(sys.argv[1]))
print((kilobytes("VmHWM") - before) / 1e3)
"""
FIRST = """
import sys
from openvla_toolkit.core.worker import fork_server
if sys.argv[1] != "0":
    fork_server("openvla_toolkit.pipeline.loader")  # as a run does
from benchmarks.data.memory import first_batches
stream = first_batches(workers=int(sys.argv[1]))
next(stream)
print("first", flush=True)
stream.close()
"""


def measure() -> list[Row]:
    """Measure in fresh processes, on an index that is there."""
    with scratch():
        run_through(batches=1)
        return [_growth(), *_first_batch(), *_picks()]


def mixture() -> list[Any]:
    """Return three RLDS sets of 256,000 frames in all, made once."""
    root = data_folder() / f"mixture-{SIZE}"
    for number, (name, episodes) in enumerate(PARTS.items()):
        if not (root / name).exists():
            _write(root, name, episodes, seed=number)
    kind: Any = load("dataset", "rlds")
    return [kind.model_validate({"root": root, "dataset": name}) for name in PARTS]


def first_batches(*, workers: int = 0, parts: int = len(PARTS)) -> Generator[Batch, None, None]:
    """Yield globally shuffled batches of the mixture as training has them."""
    prepared = prepare(mixture()[:parts], Observers([]).tell)
    sources = []
    for item in prepared:
        assert item.robot is not None
        assert item.index is not None
        assert item.statistics is not None
        source = EpisodeSource(
            item.dataset,
            item.index,
            item.statistics,
            robot=item.robot,
            normalization=Normalization(),
            cameras=("primary",),
            chunk=1,
        )
        sources.append(source)
    sampler = MixtureSampler([Source(len(source), float(len(source))) for source in sources], seed=7)
    numbers = ([*range(step * BATCH, (step + 1) * BATCH)] for step in range(10**6))
    yield from batches(sources, sampler, Stacked(), numbers, loader=Loader(workers=workers))


def run_through(*, batches: int, parts: int = len(PARTS)) -> None:
    """Take some batches."""
    with closing(first_batches(parts=parts)) as stream:
        for _ in range(batches):
            next(stream)


def _growth() -> Row:
    frames = sum(PARTS.values()) * LENGTH
    held = sum(file.stat().st_size for file in (data_folder() / f"mixture-{SIZE}").rglob("*.tfrecord*")) / 1e6
    figures = [float(_python(GROWTH, str(DRAWN // BATCH))) for _ in range(5)]
    return Row(
        name=f"resident memory of a global shuffle of {frames:,} frames in three sets",
        value=max(figures),
        unit="MB",
        peer=f"a shuffle buffer of {frames:,} encoded frames: its bytes alone",
        peer_value=held,
        target=f"<= {LIMIT_MB} MB",
        met=max(figures) <= LIMIT_MB,
        settings={"figure": "maximum", "repeats": 5, "samples": DRAWN, "picture": f"{SIZE}x{SIZE}"},
    )


def _first_batch() -> list[Row]:
    rows = []
    for workers in (0, 2):
        figures = interleaved(
            {
                "ours": partial(_seconds_to_first_line, FIRST, str(workers)),
                "peer": partial(_seconds_to_first_line, "import torch\nprint('torch', flush=True)"),
            }
        )
        row = Row(
            name=f"start of Python to the first batch of {BATCH}, indexed mixture, {workers} workers",
            value=statistics.median(figures["ours"]),
            unit="s",
            peer="python -c 'import torch'",
            peer_value=statistics.median(figures["peer"]),
            target=f"<= {LIMIT_S:g} s",
            met=statistics.median(figures["ours"]) <= LIMIT_S,
            settings={"figure": "median", "repeats": 5, "spread": spread(figures["ours"])},
        )
        rows.append(row)
    return rows


def _picks() -> list[Row]:
    """Compare with torch's RandomSampler, which writes down the whole permutation."""
    from torch.utils.data import RandomSampler

    frames = sum(MILLIONS)

    def ours(count: int) -> float:
        began = time.perf_counter()
        sampler = MixtureSampler([Source(size, float(size)) for size in MILLIONS], seed=7)
        for number in range(count * BATCH):
            sampler.pick(number)
        return 1e3 * (time.perf_counter() - began) / count

    def torchs(count: int) -> float:
        began = time.perf_counter()
        stream = iter(RandomSampler(range(frames)))
        for _ in range(count * BATCH):
            next(stream)
        return 1e3 * (time.perf_counter() - began) / count

    rows = []
    for what, count in (("first batch of picks", 1), ("batch of picks, mean of 1,000", 1000)):
        figures = interleaved({"ours": partial(ours, count), "peer": partial(torchs, count)})
        row = Row(
            name=f"{what} of {BATCH} among {frames:,} frames",
            value=statistics.median(figures["ours"]),
            unit="ms",
            peer="torch RandomSampler",
            peer_value=statistics.median(figures["peer"]),
            target="<= 100 ms" if count == 1 else "<= 5 ms",
            met=statistics.median(figures["ours"]) <= (100 if count == 1 else 5),
            settings={"figure": "median", "repeats": 5, "spread": spread(figures["ours"])},
        )
        rows.append(row)
    return rows


def _write(root: Path, name: str, episodes: int, *, seed: int) -> None:
    """Write episodes whose pictures are drawn from a few hundred: their bytes count, not their content."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(0, 40, (300, SIZE, SIZE, 3)) + generator.uniform(60, 190, (300, 1, 1, 3))
    pictures = [
        simplejpeg.encode_jpeg(picture, quality=90, colorspace="RGB", colorsubsampling="420")
        for picture in np.clip(noise, 0, 255).astype(np.uint8)
    ]
    action = [{"name": f"number-{number}", "unit": "1", "reference": "delta"} for number in range(7)]
    robot = {"cameras": {"primary": {"height": SIZE, "width": SIZE}}, "action": action, "control_hz": 10}
    card = DatasetCard(cameras={"primary": "image"}, embodiment=CustomConfig.model_validate(robot))
    step = FeaturesDict(
        {
            "observation": FeaturesDict({"image": Image((SIZE, SIZE, 3))}),
            "action": Tensor((7,), "float32"),
            "language_instruction": Text(),
        }
    )
    features = FeaturesDict({"steps": Dataset(step)})
    with RLDSWriter(root, dataset=name, features=features, card=card, shard_bytes=64 * 1024 * 1024) as writer:
        for number in range(episodes):
            steps = {
                "observation": {"image": [pictures[one] for one in generator.integers(0, 300, LENGTH)]},
                "action": generator.normal(size=(LENGTH, 7)).astype(np.float32),
                "language_instruction": [f"task {number % 40}"] * LENGTH,
            }
            writer.write_serialized(serialize_episode(features, {"steps": steps}))


def _python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.split()[-1]


def _seconds_to_first_line(code: str, *arguments: str) -> float:
    """Start a fresh interpreter, return when it first prints, and wait for its end."""
    began = time.perf_counter()
    words = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "it ended without a word"
        return time.perf_counter() - began
