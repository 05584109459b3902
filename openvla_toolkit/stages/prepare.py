"""The prepare stage: data sets are made if missing, read through once, indexed and measured."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openvla_toolkit.core.contract import Contract, Dimension, Interface
from openvla_toolkit.core.data_sections import Augment, Goals
from openvla_toolkit.core.errors import ContractMismatch, RecipeError
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.core.types import DataDescription
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig
from openvla_toolkit.interfaces.executor import Executor
from openvla_toolkit.interfaces.mixture import MixtureConfig
from openvla_toolkit.pipeline.filters import Choice, choose, refuse_unlabeled
from openvla_toolkit.pipeline.frames import frame_maker, unframed
from openvla_toolkit.pipeline.given_statistics import given_statistics
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index, index_folder
from openvla_toolkit.pipeline.mixture import epoch_length, shares
from openvla_toolkit.pipeline.sampler import Source
from openvla_toolkit.pipeline.samples import ConversationSource, EpisodeSource, SampleSource
from openvla_toolkit.pipeline.statistics import compute_statistics

__all__ = ["Prepared", "cache_folder", "indexed", "prepare", "robot_of", "sources", "statistics_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One data set, opened; ``index`` and ``statistics`` are None for conversations."""

    name: str
    weight: float
    config: DatasetConfig
    dataset: Dataset[Any]
    robot: Interface | None
    index: EpisodeIndex | None
    statistics: Statistics | None


def cache_folder() -> Path:
    """Return where indexes are kept: ``$OPENVLA_CACHE``, else ``~/.cache/openvla_toolkit``."""
    return Path(os.environ.get("OPENVLA_CACHE") or Path.home() / ".cache" / "openvla_toolkit")


def prepare(
    configs: Sequence[DatasetConfig | MixtureConfig], tell: Facts, *, executor: Executor | None = None
) -> list[Prepared]:
    """Make, open, index and measure every data set of a recipe; what was done before is not done again.

    Args:
        executor: where episodes are read and frames counted; None for this process.

    Raises:
        ContractMismatch: two data sets have one name, or robots whose actions do not go together.
    """
    prepared: list[Prepared] = []
    for config in configs:
        items = (
            _prepare_mixture(config, tell, executor)
            if isinstance(config, MixtureConfig)
            else [_prepare_one(config, tell, executor)]
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


def _prepare_mixture(config: MixtureConfig, tell: Facts, executor: Executor | None) -> list[Prepared]:
    """Prepare the members, their weights brought to shares of the mixture's own weight."""
    members = [_prepare_one(member, tell, executor) for member in config.build()]
    weights = [member.weight for member in members]
    sizes = [len(member.dataset) if member.index is None else member.index.frames for member in members]
    missing = config.left_out()
    if missing:
        _warn_of_missing(config, missing, members=len(members))
    values = {
        "total": len(members) + len(missing),
        "epoch_samples": epoch_length(weights, sizes, balance=config.balance),
    } | ({"dropped_missing": len(missing)} if missing else {})
    tell.metrics_logged(stage=f"prepare mixture {config.name}", step=len(members), values=values)
    return [
        replace(member, weight=config.weight * share)
        for member, share in zip(members, shares(weights, sizes, balance=config.balance), strict=True)
    ]


def _warn_of_missing(config: MixtureConfig, missing: Mapping[str, str], *, members: int) -> None:
    _log.warning(
        "mixture '%s' does without %d of %d members: %s.",
        getattr(config, "mixture", config.name),
        len(missing),
        len(missing) + members,
        "; ".join(f"{name} ({reason})" for name, reason in missing.items()),
    )


def indexed(
    dataset: Dataset[Any], config: DatasetConfig, tell: Facts, *, executor: Executor | None = None
) -> EpisodeIndex:
    """Return the index of a data set of robot episodes from the cache; make it where there is none.

    Raises:
        DataError: an episode is damaged, and ``config.on_error`` is not ``skip``; names it.
        ContractMismatch: it holds something else than episodes of a robot.
    """
    description = dataset.describe()
    name = description.name
    if description.robot is None:
        raise ContractMismatch(f"{name} holds no robot's episodes; only these are indexed.")
    index = build_index(
        dataset,
        index_folder(cache_folder() / "index", description),
        lambda done, total: tell.metrics_logged(
            stage=f"prepare index {name}", step=done, values={"total": total}
        ),
        executor=executor,
        on_error=config.on_error,
    )
    if index.skipped:
        total, lost = index.episodes + len(index.skipped), len(index.skipped)
        values = {"total": total, "dropped_damaged": lost}
        tell.metrics_logged(stage=f"prepare skip {name}", step=index.episodes, values=values)
        _log.warning(
            "%s: %d of %d episodes are damaged and left out. The first: %s",
            name,
            lost,
            total,
            index.skipped[0].reason,
        )
    return index


def _prepare_one(config: DatasetConfig, tell: Facts, executor: Executor | None) -> Prepared:
    config.prepare(
        lambda done, total: tell.metrics_logged(
            stage=f"prepare {config.name}", step=done, values={"total": total}
        )
    )
    dataset = config.build()
    description = dataset.describe()
    if description.robot is None:
        return Prepared(
            name=description.name,
            weight=config.weight,
            config=config,
            dataset=dataset,
            robot=None,
            index=None,
            statistics=None,
        )
    index = indexed(dataset, config, tell, executor=executor)
    # Said here already, and not only when the samples are listed: a policy may take minutes to build.
    refuse_unlabeled(index, config.filters, dataset=description.name, skip=config.on_error == "skip")
    return Prepared(
        name=description.name,
        weight=config.weight,
        config=config,
        dataset=dataset,
        robot=description.robot,
        index=index,
        statistics=_statistics(config, index, description, executor),
    )


def _statistics(
    config: DatasetConfig, index: EpisodeIndex, description: DataDescription, executor: Executor | None
) -> Statistics:
    assert description.robot is not None
    if config.statistics is None:
        return compute_statistics(index, description.robot, executor=executor)
    return given_statistics(config.statistics, dataset=description.name, robot=description.robot)


def robot_of(prepared: Sequence[Prepared]) -> Interface | None:
    """Return the robot of the data, or None where it holds none."""
    return next((item.robot for item in prepared if item.robot is not None), None)


def statistics_of(prepared: Sequence[Prepared]) -> Mapping[str, Statistics]:
    """Return the statistics of every data set that has a robot."""
    return {item.name: item.statistics for item in prepared if item.statistics is not None}


def sources(
    prepared: Sequence[Prepared],
    contract: Contract,
    *,
    augment: Augment | None = None,
    framed: bool = True,
    seed: int,
    tell: Facts,
) -> tuple[list[SampleSource], list[Source]]:
    """Return the samples as a policy wants them, and the sizes and weights that the sampler needs.

    Args:
        framed: false leaves pictures as the policy is given them when it acts, and frames them itself.

    Raises:
        DataError: a data set lacks a camera, has episodes that its filters refuse, or none that they leave.
        RecipeError: a data set chooses goals for a policy that is shown none, or a filter cannot act.
    """
    images = contract.images
    frames = frame_maker(images, augment=augment, seed=seed) if framed else unframed(images)
    members: list[SampleSource] = []
    for item in prepared:
        skip = item.config.on_error == "skip"
        if not contract.goal and item.config.goals != Goals():
            raise RecipeError(
                f"'{item.name}' chooses goals, and the policy is shown none (its contract has 'goal: "
                "false'): leave them out.",
                path="goals",
            )
        if item.robot is None or item.index is None or item.statistics is None:
            members.append(ConversationSource(item.dataset, cameras=contract.cameras, skip=skip))
            continue
        choice = choose(
            item.index,
            item.statistics,
            item.config.filters,
            contract.normalization,
            dataset=item.name,
            skip=skip,
        )
        _tell_dropped(item.name, choice, item.index, tell)
        members.append(
            EpisodeSource(
                item.dataset,
                item.index,
                item.statistics,
                robot=item.robot,
                normalization=contract.normalization,
                cameras=contract.cameras,
                chunk=contract.chunk,
                history=contract.history,
                goals=item.config.goals if contract.goal else None,
                seed=seed,
                frames=frames,
                selection=choice.selection,
                skip=skip,
            )
        )
    shares = [Source(len(member), item.weight) for member, item in zip(members, prepared, strict=True)]
    return members, shares


def _tell_dropped(name: str, choice: Choice, index: EpisodeIndex, tell: Facts) -> None:
    """Tell how many episodes every filter left out; where none was, there is nothing to tell."""
    if choice.dropped:
        values = {f"dropped_{one.reason}": one.episodes for one in choice.dropped}
        left = index.episodes - sum(values.values())
        tell.metrics_logged(
            stage=f"prepare filter {name}", step=left, values={"total": index.episodes, **values}
        )
