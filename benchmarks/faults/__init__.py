"""A run of two processes, killed at random moments and resumed: nothing that was saved is lost or changed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from openvla_toolkit.checkpoints.layout import STATE_FILE, TRAINING_STATE, checkpoints_of
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.testing import tiny_policy

__all__ = ["measure"]

KILLS, SEED = 20, 0
STEPS, SAVE_EVERY = 300, 5
VICTIMS = ("rank 0", "rank 1", "both ranks", "ranks and launcher", "launcher")
GONE = 10.0
"""Seconds within which nothing of a killed run may be left."""


@dataclass
class Kill:
    """What one kill did."""

    victim: str
    seconds: float
    """After the first step of that life."""
    killed_at: int
    """The last step that was told of."""
    resumed_from: int
    """Step of the newest whole checkpoint; 0 where there is none."""
    unreadable: list[str] = field(default_factory=list)
    left: int = 0
    """Processes that outlived the kill by ``GONE`` seconds."""
    lines: int = 0
    """Lines of figures that were written until then."""


def measure() -> list[Row]:
    """Kill a run again and again, let the last life finish, and compare with a run that nobody touched."""
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        recipe = _recipe(Path(folder))
        straight = Path(folder) / "straight"
        _finished(_started(recipe, straight))
        expected = {line["step"]: line for line in _figures(straight)}
        broken = Path(folder) / "broken"
        window = (
            _seconds(straight) * 1.5 / KILLS
        )  # a life is half of that: all of them are shorter than the run
        kills = [_kill(recipe, broken, chance, window) for _ in range(KILLS)]
        _finished(_started(recipe, broken))
        found = _figures(broken)
    return list(_rows(kills, found, expected, window))


def _rows(
    kills: list[Kill], found: list[dict[str, Any]], expected: Mapping[int, Any], window: float
) -> Iterator[Row]:
    bounds = pairwise([*(kill.lines for kill in kills), len(found)])
    lives = [found[start:stop] for start, stop in bounds]
    rows = []
    for number, (kill, life) in enumerate(zip(kills, lives, strict=True), start=1):
        same = bool(life) and all(line == expected[line["step"]] for line in life)
        rows.append(
            Row(
                name=f"kill {number}, {kill.victim}: resumed from",
                value=kill.resumed_from,
                unit="steps",
                peer="killed at",
                peer_value=kill.killed_at,
                target="readable, nothing left, same figures after",
                met=same and not kill.unreadable and not kill.left,
                settings={
                    "seconds": round(kill.seconds, 3),
                    "unreadable": kill.unreadable,
                    "left": kill.left,
                },
            )
        )
    whole = [line for line in found if line == expected[line["step"]]]
    yield Row(
        name="kills survived to the last bit",
        value=sum(bool(row.met) for row in rows),
        unit="kills",
        peer="kills",
        peer_value=len(kills),
        target="ratio = 1",
        met=all(row.met for row in rows) and {line["step"] for line in whole} == set(expected),
        settings={
            "engine": "fsdp, 2 processes, CPU",
            "steps": STEPS,
            "save_every": SAVE_EVERY,
            "kill": f"SIGKILL, up to {window:.1f} s after the first step of each life",
            "same": "loss, gradient norm, learning rate and metrics of every step that was ever taken",
        },
    )
    yield from rows


def _recipe(folder: Path) -> Path:
    data = {
        "name": "demonstrations",
        "environment": {"name": "tabletop", "world": {"image_size": 32}},
        "root": str(folder / "data"),
        "dataset": "faults",
        "episodes": 6,
        "workers": 1,
    }
    recipe = Recipe.from_mapping(
        {
            "output": str(folder / "run"),
            "policy": tiny_policy().model_dump(mode="json"),
            "data": [data],
            "train": {
                "engine": {"name": "fsdp", "device": "cpu"},
                "optimizer": {"lr": 1e-3},
                "schedule": {"name": "cosine", "warmup": 20},
                "steps": STEPS,
                "batch": {"total": 8, "per_device": 2},
                "log_every": 1,
                "save_every": SAVE_EVERY,
                "keep_best": "loss",
            },
            "observers": ["jsonl"],
        }
    )
    path = folder / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    return path


def _started(recipe: Path, output: Path) -> subprocess.Popen[bytes]:
    words = ["run", str(recipe), f"output={output}", "--nproc", "2", "--resume", "auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENVLA_CACHE": str(recipe.parent / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "openvla_toolkit", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finished(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {said.decode()}")


def _kill(recipe: Path, output: Path, chance: random.Random, window: float) -> Kill:
    """Start the run, wait for its first step and a while more, kill, and look at what is left."""
    before = len(_figures(output))
    process = _started(recipe, output)
    while len(_figures(output)) == before:
        if process.poll() is not None:
            _finished(process)
            raise RuntimeError(
                f"the run was finished before it was killed {KILLS} times; give it more steps."
            )
        time.sleep(0.01)
    seconds, victim = chance.uniform(0, window), chance.choice(VICTIMS)
    ranks = _children(process.pid)
    time.sleep(seconds)
    for pid in _chosen(victim, process.pid, ranks):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    left = _left_after(ranks)
    figures = _figures(output)
    whole = checkpoints_of(output)
    return Kill(
        victim=victim,
        seconds=seconds,
        killed_at=figures[-1]["step"],
        resumed_from=int(whole[-1].name.removeprefix("step-")) if whole else 0,
        unreadable=[path.name for path in whole if not _is_readable(path)],
        left=left,
        lines=len(figures),
    )


def _chosen(victim: str, launcher: int, ranks: list[int]) -> list[int]:
    return {
        "rank 0": ranks[:1],
        "rank 1": ranks[1:],
        "both ranks": ranks,
        "ranks and launcher": [*ranks, launcher],
        "launcher": [launcher],
    }[victim]


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _left_after(ranks: list[int]) -> int:
    deadline = time.monotonic() + GONE
    while (left := sum(map(_runs, ranks))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _is_readable(checkpoint: Path) -> bool:
    """Read the policy of a checkpoint; whether its training state can be read, the next life shows."""
    try:
        load_policy(checkpoint)
        json.loads((checkpoint / TRAINING_STATE / STATE_FILE).read_text())
    except Exception as error:  # whatever it is, it is counted
        print(f"{checkpoint.name}: {error}")
        return False
    return True


def _lines(output: Path) -> Iterator[dict[str, Any]]:
    """Yield what was told of the training; a line that a kill cut off is none."""
    path = output / "metrics.jsonl"
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["stage"] == "train":
            yield line


def _figures(output: Path) -> list[dict[str, Any]]:
    """Return the figures of every step that was taken, in order, without times."""
    times = {"time", "stage", "samples_per_second", "tokens_per_second", "data_wait", "peak_memory_gb"}
    return [{key: value for key, value in line.items() if key not in times} for line in _lines(output)]


def _seconds(output: Path) -> float:
    """Return how long a run trained."""
    stamps = [line["time"] for line in _lines(output)]
    return float(stamps[-1] - stamps[0])
