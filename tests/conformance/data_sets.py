"""The RLDS data sets of a kit, opened and indexed as the toolkit does it, and measured over all splits."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from tests.conformance import kit

PLACE = "rlds/data"


class Opened(NamedTuple):
    """A data set and what is known of it once it has been read through."""

    dataset: Dataset[Any]
    index: EpisodeIndex
    robot: Interface


def names() -> list[str]:
    """Return the data sets of the kit."""
    return sorted(path.name for path in (kit.root() / PLACE).glob("*"))


def reader(dataset: str, *, split: str = "train") -> RLDSConfig:
    """Return the settings that read a data set; what is not said comes from the catalog."""
    return RLDSConfig(root=kit.root() / PLACE, dataset=dataset, split=split)


@cache
def opened(dataset: str, split: str = "train") -> Opened:
    """Open a part of a data set and index it."""
    source = reader(dataset, split=split).build()
    robot = source.describe().robot
    assert robot is not None
    return Opened(source, build_index(source, _folder() / f"{dataset}-{split}"), robot)


@cache
def splits(dataset: str) -> tuple[str, str]:
    """Return what the original trains and what it validates on: where no ``val`` is, 95 % and the rest."""
    info = next((kit.root() / PLACE / dataset).glob("*/dataset_info.json")).read_text()
    return ("train", "val") if '"val"' in info else ("train[:95%]", "train[95%:]")


@cache
def measured(dataset: str) -> Statistics:
    """Return the statistics over all splits."""
    whole = opened(dataset, "all")
    return compute_statistics(whole.index, whole.robot)


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="openvla-indexes-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
