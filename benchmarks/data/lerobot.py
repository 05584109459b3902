"""Frames per second of LeRobot sets, beside LeRobot's own loader on the very files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.data.frames import REPEATS, rate_row
from benchmarks.data.generated import EPISODES, FRAMES, SIZE, data_folder, lerobot_set, scratch
from benchmarks.data.peers import figure
from benchmarks.data.throughput import BATCH, SECONDS, WORKERS, frames_per_second, source
from benchmarks.rows import Row, interleaved

__all__ = ["measure"]

KINDS = {
    "video": "video features (AV1)",
    "image": "image features as our writer lays them out",
    "image-compressed": "image features as LeRobot lays them out",
}
TARGETS = {"video": 2.0, "image": 2.0}


def measure() -> list[Row]:
    """Measure every kind of feature."""
    with scratch():
        return [_row(kind) for kind in KINDS]


def _row(kind: str) -> Row:
    samples = source(lerobot_set(kind), None)
    calls: dict[str, Callable[[], float]] = {
        "ours": partial(frames_per_second, samples),
        "LeRobot 0.4.4": partial(
            figure, "lerobot_loader", data_folder() / f"lerobot-{kind}", SECONDS, WORKERS
        ),
    }
    return rate_row(
        interleaved(calls, repeats=REPEATS),
        f"loader, LeRobot v3.0 set, {KINDS[kind]}, {SIZE} px",
        "ours",
        "LeRobot 0.4.4",
        target=TARGETS.get(kind),
        settings={
            "data": f"{EPISODES} episodes, {FRAMES} frames",
            "batch": BATCH,
            "workers": f"{WORKERS} for both, torch's DataLoader",
            "pictures": "decoded; ours uint8, LeRobot's float32 in 0..1",
        },
    )
