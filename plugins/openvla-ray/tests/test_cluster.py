"""On a real cluster of this machine: the same results as in processes, errors with names, a clean end."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from openvla_ray import RayConfig
from openvla_ray.cluster import Cluster

from openvla_toolkit import Recipe
from openvla_toolkit.core.errors import DataError, OpenVLAError
from openvla_toolkit.core.worker import available_cores
from openvla_toolkit.executors import ProcessesConfig
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from openvla_toolkit.pipeline.statistics import compute_statistics
from openvla_toolkit.testing import DotsEpisodesConfig, DotsRobotConfig, check_executor

SOURCE = DotsEpisodesConfig(episodes=70)
CORES = available_cores()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests, ended by its executor; its actors leave others a part of a core."""
    executor = RayConfig(cpus_per_task=CORES / 2.5).build()
    assert dict(executor.map(lambda state, piece: piece, [7], setup=lambda: None)) == {0: 7}
    yield executor
    del executor
    gc.collect()


def test_it_keeps_to_the_interface(cluster: Cluster) -> None:
    check_executor(RayConfig(cpus_per_task=CORES / 2.5))  # one place is taken by the cluster's own
    gc.collect()
    assert ray.is_initialized(), "a connection that another one has made is left alone"


def prepared(folder: Path, executor: Executor) -> tuple[EpisodeIndex, dict[str, bytes]]:
    """Index, measure and convert; return the index and the content of the copy."""
    index = build_index(SOURCE.build(), folder / "index", executor=executor)
    compute_statistics(index, DotsRobotConfig().build(), executor=executor)
    job = Job(source=SOURCE, destination=folder / "copy", to="rlds", settings={}, shard_frames=100)
    done = convert(job, executor=executor)
    assert done.shards > 1
    return index, content(folder / "copy")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_makes_what_processes_make(cluster: Cluster, tmp_path: Path) -> None:
    index, copy = prepared(tmp_path / "ray", cluster)
    other, same = prepared(tmp_path / "here", ProcessesConfig(workers=1).build())
    assert content(index.folder) == content(other.folder)
    assert copy == same
    assert index.episodes == SOURCE.episodes


def test_a_damaged_episode_is_named(cluster: Cluster, tmp_path: Path) -> None:
    dataset = SOURCE.build()
    dataset._episodes[40].actions[1, 0] = np.nan
    with pytest.raises(DataError, match="episode dots/40, frame 1, 'action'") as caught:
        build_index(dataset, tmp_path / "index", executor=cluster)
    assert caught.value.frame == 1


def test_a_process_that_dies_is_named(cluster: Cluster) -> None:
    executor = RayConfig(retries=0, cpus_per_task=CORES / 10).build()
    with pytest.raises(OpenVLAError, match=r"Ray lost piece 1 of 1: .*raise cpus_per_task"):
        list(executor.map(lambda state, piece: os._exit(piece), [3], setup=lambda: None))


def test_a_piece_whose_process_died_is_begun_again(cluster: Cluster, tmp_path: Path) -> None:
    def die_once(state: None, piece: Path) -> int:
        if not piece.exists():
            piece.touch()
            os._exit(3)
        return 5

    assert list(cluster.map(die_once, [tmp_path / "begun"], setup=lambda: None)) == [(0, 5)]


def test_where_there_is_no_cluster_is_said() -> None:
    ray.shutdown()
    with pytest.raises(OpenVLAError, match="there is no Ray cluster at 'auto': "):
        list(RayConfig(address="auto").build().map(partial(int), [1], setup=int))


def test_it_is_chosen_by_name_without_importing_ray() -> None:
    recipe = Recipe.from_mapping(
        {"output": "x", "prepare": {"executor": {"name": "ray", "cpus_per_task": 2}}, "observers": []}
    )
    assert recipe.prepare.executor == RayConfig(cpus_per_task=2)
