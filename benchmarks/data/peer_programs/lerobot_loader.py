"""Frames per second of LeRobot's own data set under torch's DataLoader, as its training script uses it.

Usage: lerobot_loader.py FOLDER SECONDS WORKERS. Pictures are decoded by LeRobot's default (torchcodec for
videos) to float32 in 0..1; they are neither resized nor augmented.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

BATCH = 32
WARM_UP = 4
"""Batches per worker."""


def main(folder: Path, seconds: float, workers: int) -> None:
    """Print frames per second after the warm-up."""
    _declare_operators()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    loader = torch.utils.data.DataLoader(
        LeRobotDataset(folder.name, root=folder),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        prefetch_factor=2,
        persistent_workers=True,
    )
    count, seen, began = 0, 0, 0.0
    while True:
        for batch in loader:
            seen += 1
            if seen == WARM_UP * workers:
                count, began = 0, time.perf_counter()
            count += len(batch["action"])
            if seen > WARM_UP * workers and time.perf_counter() > began + seconds:
                print((count - BATCH) / (time.perf_counter() - began), flush=True)
                os._exit(0)  # the workers need not be waited for


def _declare_operators() -> None:
    """Let torchvision be imported beside a CPU build of torch, for which it has no operators."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)


KEPT: list[object] = []

if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
