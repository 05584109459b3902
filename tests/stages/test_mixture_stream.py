"""Three RLDS sets in a weighted mixture: one stream for any workers, ranks, resumption and place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.datasets import DemonstrationsConfig, RLDSConfig
from openvla_toolkit.mixtures import WeightedConfig
from openvla_toolkit.pipeline.loader import Batch, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, micro_batches
from openvla_toolkit.stages.prepare import Prepared, prepare, robot_of, sources, statistics_of
from openvla_toolkit.testing import DotsConfig, LinearPolicyConfig
from tests.assets.file_server import FileServer, serving

WEIGHTS = {"red": 1.0, "green": 2.0, "blue": 0.5}
SHUFFLES = [{"name": "global"}, {"name": "blocks", "block": 5, "window": 2}]
TOTAL = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three sets of the fake world's demonstrations."""
    root = tmp_path_factory.mktemp("lake")
    for number, (name, episodes) in enumerate({"red": 6, "green": 4, "blue": 2}.items()):
        DemonstrationsConfig(
            environment=DotsConfig(), root=root, dataset=name, episodes=episodes, seed=100 * number, workers=1
        ).prepare()
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[FileServer]:
    with serving(root) as server:
        yield server


def prepared(root: Path | str) -> list[Prepared]:
    members = [
        RLDSConfig.model_validate({"root": root, "dataset": name, "weight": weight})
        for name, weight in WEIGHTS.items()
    ]
    return prepare([WeightedConfig(data=members)], Observers([]).tell)


def stream(root: Path | str, *, start: int = 0, stop: int = 12, **options: Any) -> list[Batch]:
    data = prepared(root)
    policy = LinearPolicyConfig().build(robot=robot_of(data), statistics=statistics_of(data))
    ranks = {key: options.pop(key) for key in ("rank", "world_size", "per_device") if key in options}
    loader = Loader.model_validate(options)
    members, shares = sources(data, policy.contract, seed=7, tell=Observers([]).tell)
    numbers = micro_batches(start=start, stop=stop, total=TOTAL, **{"per_device": TOTAL, **ranks})
    sampler = MixtureSampler(shares, seed=7, shuffle=loader.shuffle)
    return list(batches(members, sampler, policy.processor, numbers, loader=loader))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(one, other, strict=True)
    )


def rows(made: list[Batch]) -> list[bytes]:
    """Return the samples of some batches in an order of their own."""
    return sorted(
        b"".join(np.ascontiguousarray(batch[key][row]).tobytes() for key in sorted(batch))
        for batch in made
        for row in range(len(next(iter(batch.values()))))
    )


@pytest.mark.parametrize("shuffle", SHUFFLES, ids=lambda shuffle: shuffle["name"])
def test_any_workers_and_any_resumption_give_the_same_batches(root: Path, shuffle: Any) -> None:
    straight = stream(root, shuffle=shuffle, workers=0)
    assert same(stream(root, shuffle=shuffle, workers=2, start=5), straight[5:])
    assert same(stream(root, shuffle=shuffle, workers=1, prefetch=5, start=7), straight[7:])
    assert not same(straight[:1], straight[1:2])


@pytest.mark.parametrize("shuffle", SHUFFLES, ids=lambda shuffle: shuffle["name"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_any_ranks_see_the_same_samples_at_every_step(root: Path, shuffle: Any, world_size: int) -> None:
    alone = stream(root, shuffle=shuffle, stop=6)
    share = TOTAL // world_size
    ranks = [
        stream(root, shuffle=shuffle, stop=6, rank=rank, world_size=world_size, per_device=share)
        for rank in range(world_size)
    ]
    for step in range(6):
        assert rows([rank[step] for rank in ranks]) == rows([alone[step]])


@pytest.mark.parametrize("shuffle", SHUFFLES, ids=lambda shuffle: shuffle["name"])
@pytest.mark.parametrize("workers", [0, 2])
def test_files_behind_a_url_give_the_same_batches(
    root: Path, server: FileServer, shuffle: Any, workers: int
) -> None:
    here = stream(root, shuffle=shuffle, workers=0)
    assert same(stream(server.url, shuffle=shuffle, workers=workers), here)


def test_pictures_cross_the_line_in_few_requests(server: FileServer) -> None:
    stream(server.url)  # the index is there from here on
    for shuffle in SHUFFLES:
        server.asked.clear()
        stream(server.url, shuffle=shuffle)
        requests = [path for method, path, _ in server.asked if method == "GET" and "tfrecord" in path]
        assert 0 < len(requests) <= 12 * len(WEIGHTS), "one per batch and data set, whose files are small"
