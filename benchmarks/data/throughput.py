"""Frames per second of the loader, through the path that training takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.types import ConversationSample, Observation, Sample
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.pipeline.frames import FrameMaker
from openvla_toolkit.pipeline.loader import batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.stages.prepare import prepare

__all__ = ["BATCH", "SECONDS", "WORKERS", "Stacked", "frames_per_second", "source"]

BATCH, WORKERS, SECONDS = 32, 2, 5.0
WARM_UP = 4
"""Batches per worker."""


class Stacked:
    """Pixels and actions of a batch, and nothing a policy would add: what the peers deliver."""

    def encode(self, sample: Sample | ConversationSample) -> dict[str, NDArray[Any]]:
        """Return pixels and actions."""
        assert isinstance(sample, Sample)
        return {"pixels": sample.images["primary"], "actions": sample.actions}

    def encode_observation(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """Raise: nothing acts here."""
        raise NotImplementedError

    def collate(
        self, items: Sequence[Mapping[str, NDArray[Any]]], *, side: str = "right"
    ) -> dict[str, NDArray[Any]]:
        """Stack."""
        return {key: np.stack([item[key] for item in items]) for key in items[0]}


def source(config: DatasetConfig, frames: FrameMaker | None) -> EpisodeSource:
    """Open a data set, indexing it if need be."""
    (item,) = prepare([config], Observers([]).tell)
    assert item.robot is not None
    assert item.index is not None
    assert item.statistics is not None
    return EpisodeSource(
        item.dataset,
        item.index,
        item.statistics,
        robot=item.robot,
        normalization=Normalization(),
        cameras=("primary",),
        chunk=1,
        frames=frames,
    )


def frames_per_second(samples: EpisodeSource, *, workers: int = WORKERS, seconds: float = SECONDS) -> float:
    """Measure globally shuffled batches after the workers' start and first batches."""
    sampler = MixtureSampler([Source(len(samples), 1.0)], seed=0)
    numbers = ([*range(step * BATCH, step * BATCH + BATCH)] for step in count())
    stream = batches([samples], sampler, Stacked(), numbers, loader=Loader(workers=workers))
    with closing(stream):
        for _ in range(WARM_UP * max(workers, 1)):
            next(stream)
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            done += len(next(stream)["actions"])
        return done / (time.perf_counter() - began)
