"""Data sets that tensorflow-datasets wrote: made here, and recorded ones."""

from __future__ import annotations

import os
import sys
import tarfile
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openvla_tfds.builder import tf, tfds
from toy_builders import ToyArms, ToyPhases

REPOSITORY = Path(__file__).parents[3]
RECORDED = REPOSITORY / "tests" / "golden" / "rlds" / "data"
KIT = Path(os.environ.get("OPENVLA_CONFORMANCE_KIT") or REPOSITORY / "tests" / "golden" / "kit.tar.xz")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that TFDS wrote both builders' data sets to."""
    folder = tmp_path_factory.mktemp("data")
    for builder in (ToyArms, ToyPhases):
        builder(data_dir=str(folder)).download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=2)
        )
    return folder


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The version folders of the recorded data sets that are at hand."""
    place = KIT
    if KIT.is_file():
        place = tmp_path_factory.mktemp("kit")
        with tarfile.open(KIT) as archive:
            members = [
                member for member in archive if member.name.removeprefix("./").startswith("rlds/data/")
            ]
            archive.extractall(place, members=members, filter="data")
    found = [
        *RECORDED.glob("*/*/dataset_info.json"),
        *(place / "rlds" / "data").glob("*/*/dataset_info.json"),
    ]
    return [info.parent for info in found]


@pytest.fixture
def dlimp(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test reads through dlimp and it is not installed, put what it is known to do in its place."""
    if request.node.callspec.params["via"] == "dlimp" and find_spec("dlimp") is None:
        module = ModuleType("dlimp")
        module.__spec__ = ModuleSpec("dlimp", loader=None)
        module.DLataset = StandIn  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "dlimp", module)


class StandIn:
    """dlimp's ``DLataset``, as far as it is used: steps on top, images encoded, the rest repeated."""

    @staticmethod
    def from_rlds(builder: Any, *, split: Any, shuffle: bool, num_parallel_reads: int) -> Any:
        """Return trajectories as a ``tf.data.Dataset``."""
        episodes = builder.as_dataset(
            split=split,
            shuffle_files=shuffle,
            decoders={"steps": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=num_parallel_reads, skip_prefetch=True),
        )
        return episodes.enumerate().map(_with_metadata)


def _with_metadata(number: Any, episode: dict[str, Any]) -> dict[str, Any]:
    steps = episode.pop("steps")
    length = tf.shape(tf.nest.flatten(steps)[0])[0]
    return {
        **steps,
        "traj_metadata": tf.nest.map_structure(lambda value: tf.repeat(value, length), episode),
        "_len": tf.repeat(length, length),
        "_traj_index": tf.repeat(number, length),
        "_frame_index": tf.range(length),
    }
