"""The prepare stage: data sets are made if missing, read through once, indexed and measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvla_toolkit.core.contract import Contract, Interface
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index, index_folder
from openvla_toolkit.pipeline.sampler import Source
from openvla_toolkit.pipeline.samples import ConversationSource, EpisodeSource, SampleSource
from openvla_toolkit.pipeline.statistics import compute_statistics

__all__ = ["Prepared", "cache_folder", "prepare", "robot_of", "sources", "statistics_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One data set, opened; ``index`` and ``statistics`` are None for conversations."""

    name: str
    weight: float
    dataset: Dataset[Any]
    robot: Interface | None
    index: EpisodeIndex | None
    statistics: Statistics | None


def cache_folder() -> Path:
    """Return where indexes are kept: ``$OPENVLA_CACHE``, else ``~/.cache/openvla_toolkit``."""
    return Path(os.environ.get("OPENVLA_CACHE") or Path.home() / ".cache" / "openvla_toolkit")


def prepare(configs: Sequence[DatasetConfig], tell: Facts) -> list[Prepared]:
    """Make, open, index and measure every data set of a recipe; what was done before is not done again.

    Raises:
        ContractMismatch: two data sets have robots with different actions or one name.
    """
    prepared: list[Prepared] = []
    for config in configs:
        item = _prepare_one(config, tell)
        if any(item.name == other.name for other in prepared):
            raise ContractMismatch(
                f"two data sets are named '{item.name}'; statistics need names of their own."
            )
        prepared.append(item)
    robots = [(item.name, item.robot) for item in prepared if item.robot is not None]
    for name, robot in robots[1:]:
        if robot.action != robots[0][1].action:
            raise ContractMismatch(
                f"'{robots[0][0]}' and '{name}' have different actions "
                f"({len(robots[0][1].action)} and {len(robot.action)} numbers); one policy cannot learn both."
            )
    return prepared


def _prepare_one(config: DatasetConfig, tell: Facts) -> Prepared:
    def report(what: str, done: int, total: int) -> None:
        tell.metrics_logged(stage=f"prepare {what}", step=done, values={"total": total})

    config.prepare(lambda done, total: report(config.name, done, total))
    dataset = config.build()
    description = dataset.describe()
    if description.robot is None:
        return Prepared(
            name=description.name,
            weight=config.weight,
            dataset=dataset,
            robot=None,
            index=None,
            statistics=None,
        )
    index = build_index(
        dataset,
        index_folder(cache_folder() / "index", description),
        lambda done, total: report(f"index {description.name}", done, total),
    )
    return Prepared(
        name=description.name,
        weight=config.weight,
        dataset=dataset,
        robot=description.robot,
        index=index,
        statistics=compute_statistics(index, description.robot),
    )


def robot_of(prepared: Sequence[Prepared]) -> Interface | None:
    """Return the robot of the data, or None where it holds none."""
    return next((item.robot for item in prepared if item.robot is not None), None)


def statistics_of(prepared: Sequence[Prepared]) -> Mapping[str, Statistics]:
    """Return the statistics of every data set that has a robot."""
    return {item.name: item.statistics for item in prepared if item.statistics is not None}


def sources(prepared: Sequence[Prepared], contract: Contract) -> tuple[list[SampleSource], list[Source]]:
    """Return the samples as a policy wants them, and the sizes and weights that the sampler needs."""
    members: list[SampleSource] = []
    for item in prepared:
        if item.robot is None or item.index is None or item.statistics is None:
            members.append(ConversationSource(item.dataset, cameras=contract.cameras))
            continue
        members.append(
            EpisodeSource(
                item.dataset,
                item.index,
                item.statistics,
                robot=item.robot,
                normalization=contract.normalization,
                cameras=contract.cameras,
                chunk=contract.chunk,
            )
        )
    shares = [Source(len(member), item.weight) for member, item in zip(members, prepared, strict=True)]
    return members, shares
