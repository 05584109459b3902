"""The prepare stage: data sets are made if missing, read through once, indexed and measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openvla_toolkit.core.contract import Contract, Dimension, Interface
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
from openvla_toolkit.interfaces.mixture import MixtureConfig
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index, index_folder
from openvla_toolkit.pipeline.mixture import epoch_length, shares
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


def prepare(configs: Sequence[DatasetConfig | MixtureConfig], tell: Facts) -> list[Prepared]:
    """Make, open, index and measure every data set of a recipe; what was done before is not done again.

    Raises:
        ContractMismatch: two data sets have one name, or robots whose actions do not go together.
    """
    prepared: list[Prepared] = []
    for config in configs:
        items = (
            _prepare_mixture(config, tell)
            if isinstance(config, MixtureConfig)
            else [_prepare_one(config, tell)]
        )
        for item in items:
            if any(item.name == other.name for other in prepared):
                raise ContractMismatch(
                    f"two data sets are named '{item.name}'; statistics need names of their own."
                )
            prepared.append(item)
    _check_actions([(item.name, item.robot) for item in prepared if item.robot is not None])
    return prepared


def _check_actions(robots: Sequence[tuple[str, Interface]]) -> None:
    """Check that one policy can learn them all: as many numbers, each a change or not, a gripper or not.

    Units and the way rotations are written may differ: every data set is normalised by its own statistics.
    """
    for name, robot in robots[1:]:
        first, wanted = robots[0][0], robots[0][1].action
        differ = f"'{first}' and '{name}' have different actions: "
        if len(wanted) != len(robot.action):
            raise ContractMismatch(
                f"{differ}{len(wanted)} and {len(robot.action)} numbers; one policy cannot learn both."
            )
        for ours, theirs in zip(wanted, robot.action, strict=True):
            if (ours.reference, ours.gripper) != (theirs.reference, theirs.gripper):
                raise ContractMismatch(
                    f"{differ}'{ours.name}' is {_kind(ours)}, '{theirs.name}' is {_kind(theirs)}; a "
                    "transform can bring one to the other."
                )


def _kind(number: Dimension) -> str:
    gripper = {None: "", "open_high": " gripper, open when high", "open_low": " gripper, open when low"}
    return f"{number.reference}{gripper[number.gripper]}"


def _prepare_mixture(config: MixtureConfig, tell: Facts) -> list[Prepared]:
    """Prepare the members, their weights brought to shares of the mixture's own weight."""
    members = [_prepare_one(member, tell) for member in config.build()]
    weights = [member.weight for member in members]
    sizes = [len(member.dataset) if member.index is None else member.index.frames for member in members]
    tell.metrics_logged(
        stage=f"prepare mixture {config.name}",
        step=len(members),
        values={
            "total": len(members),
            "epoch_samples": epoch_length(weights, sizes, balance=config.balance),
        },
    )
    return [
        replace(member, weight=config.weight * share)
        for member, share in zip(members, shares(weights, sizes, balance=config.balance), strict=True)
    ]


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
