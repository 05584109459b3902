"""Closed-loop evaluation: the policy acts, the environment answers, successes are counted."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import EpisodeError
from openvla_toolkit.core.storage import atomic_write_bytes, atomic_write_text
from openvla_toolkit.core.types import Observation
from openvla_toolkit.core.worker import available_cores
from openvla_toolkit.evaluators.episodes import EpisodePlan, Outcome, plan_episodes
from openvla_toolkit.evaluators.filmstrip import choose_outcomes
from openvla_toolkit.evaluators.histograms import action_histograms
from openvla_toolkit.evaluators.intervals import Rate
from openvla_toolkit.evaluators.worker_process import Act, Film, Start
from openvla_toolkit.evaluators.workers import WorkerPool

if TYPE_CHECKING:
    from openvla_toolkit.evaluators import ClosedLoopConfig
    from openvla_toolkit.interfaces.evaluator import Progress
    from openvla_toolkit.interfaces.policy import Policy

__all__ = ["ClosedLoop"]

CRITERION = "the environment's own test of the goal (info['is_success']) at the last step of the episode"
EXPERT = "the expert was asked in every state that the policy visited, the swap probe left out"


class ClosedLoop:
    """Many environments in worker processes, one batched policy here.

    The episodes (scene, goal, instruction) depend on ``seed`` alone; the number of processes and of parallel
    environments changes only in which batches the policy is asked.
    """

    def __init__(self, config: ClosedLoopConfig) -> None:
        self.config = config

    def evaluate(self, policy: Policy, folder: Path, progress: Progress) -> Mapping[str, Any]:
        """Run all episodes; write ``episodes.jsonl`` and ``filmstrips/``; return the figures.

        Raises:
            ContractMismatch, RecipeError: as ``ClosedLoopConfig.check``.
            EpisodeError: an environment failed; names the episode, its seed and the cause.
        """
        config, environment = self.config, self.config.environment
        config.check(policy.contract, policy.statistics)
        plans = plan_episodes(
            config.families or environment.families(),
            episodes=config.episodes,
            swap_probe=config.swap_probe,
            seed=config.seed,
        )
        slots = min(config.parallel, len(plans))
        tally = _Tally(total=len(plans), progress=progress)
        started = perf_counter()
        with WorkerPool(
            environment,
            cameras=policy.contract.cameras,
            slots=slots,
            workers=config.workers or available_cores(),
        ) as pool:
            outcomes = _Rollout(policy, pool, config=config, finished=tally.add).run(plans, slots)
            seconds = perf_counter() - started
            strips = _filmstrips(pool, outcomes, folder, count=config.filmstrips, slots=slots)
        atomic_write_text(folder / "episodes.jsonl", "".join(map(_line, outcomes)))
        return self._figures(policy, outcomes, seconds=seconds) | {"filmstrips": strips}

    def _figures(self, policy: Policy, outcomes: Sequence[Outcome], *, seconds: float) -> dict[str, Any]:
        proper = [outcome for outcome in outcomes if not outcome.plan.swap]
        swapped = [outcome for outcome in outcomes if outcome.plan.swap]
        steps = sum(outcome.steps for outcome in outcomes)
        overall = _rate(proper)
        families = {
            family: _rate([outcome for outcome in proper if outcome.plan.family == family])
            for family in dict.fromkeys(outcome.plan.family for outcome in proper)
        }
        probe = _rate(swapped) if swapped else None
        return {
            "evaluator": self.config.name,
            "summary": _summary(overall, families, probe),
            "success": overall.to_json(),
            "families": {family: rate.to_json() for family, rate in families.items()},
            "swap_probe": probe.to_json() if probe else None,
            "criterion": CRITERION,
            "environment": self.config.environment.model_dump(mode="json"),
            "seeds": {"first": self.config.seed, "last": self.config.seed + self.config.episodes - 1},
            "steps": steps,
            "seconds": round(seconds, 3),
            "steps_per_second": round(steps / seconds, 1),
            "actions": _actions(policy, proper),
        }


class _Tally:
    """Counts outcomes as they come in and tells the running success rate."""

    def __init__(self, *, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done, self._proper, self._successes = 0, 0, 0
        progress(0, {"total": total})

    def add(self, outcome: Outcome) -> None:
        self._done += 1
        if not outcome.plan.swap:
            self._proper += 1
            self._successes += outcome.success
        rate = self._successes / max(1, self._proper)
        self._progress(self._done, {"total": self._total, "success": rate})


class _Rollout:
    """Steps all slots together; a slot that is done takes the next episode before the policy is asked."""

    def __init__(
        self,
        policy: Policy,
        pool: WorkerPool,
        *,
        config: ClosedLoopConfig,
        finished: Callable[[Outcome], None],
    ) -> None:
        self._policy, self._pool, self._config, self._finished = policy, pool, config, finished

    def run(self, plans: Sequence[EpisodePlan], slots: int) -> list[Outcome]:
        """Return the outcomes of all plans, in their order."""
        waiting = deque(plans)
        outcomes: list[Outcome] = []
        present: dict[int, EpisodePlan] = {}
        seen = self._start(range(slots), waiting, present)
        while seen:
            replies = self._pool.carry_out(self._orders(seen, present))
            ended = {slot: reply for slot, reply in replies.items() if isinstance(reply, Outcome)}
            for outcome in ended.values():
                self._finished(outcome)
                outcomes.append(outcome)
            seen = {slot: reply for slot, reply in replies.items() if isinstance(reply, Observation)}
            seen |= self._start(ended, waiting, present)
        return sorted(outcomes, key=lambda outcome: outcome.plan.index)

    def _start(
        self, free: Iterable[int], waiting: deque[EpisodePlan], present: dict[int, EpisodePlan]
    ) -> dict[int, Observation]:
        starting = {slot: waiting.popleft() for slot in free if waiting}
        present |= starting
        if not starting:
            return {}
        replies = self._pool.carry_out({slot: Start(plan) for slot, plan in starting.items()})
        return {slot: reply for slot, reply in replies.items() if isinstance(reply, Observation)}

    def _orders(self, seen: Mapping[int, Observation], present: Mapping[int, EpisodePlan]) -> dict[int, Act]:
        chunks = self._policy.predict_chunks(
            [seen[slot] for slot in sorted(seen)], unnorm_key=self._config.unnorm_key
        )
        orders = {}
        for slot, chunk in zip(sorted(seen), chunks, strict=True):
            actions = chunk.actions[: self._config.execute]
            if not np.isfinite(actions).all():
                raise EpisodeError(f"the policy gave actions that are not finite in {present[slot]}.")
            orders[slot] = Act(present[slot], actions)
        return orders


def _filmstrips(
    pool: WorkerPool, outcomes: Sequence[Outcome], folder: Path, *, count: int, slots: int
) -> list[dict[str, Any]]:
    """Photograph some episodes of every family, and of the swap probe."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault("swap" if outcome.plan.swap else outcome.plan.family, []).append(outcome)
    wanted = [(group, one) for group, ones in groups.items() for one in choose_outcomes(ones, count)]
    entries = []
    for first in range(0, len(wanted), slots):
        share = wanted[first : first + slots]
        strips = pool.carry_out({slot: Film(one) for slot, (_, one) in enumerate(share)})
        for (group, outcome), strip in zip(share, strips.values(), strict=True):
            entries.append(_kept_strip(group, outcome, strip, folder))
    return entries


def _kept_strip(group: str, outcome: Outcome, strip: object, folder: Path) -> dict[str, Any]:
    """Write a strip and say where; an environment that does not repeat itself is told, not hidden."""
    entry = outcome.log_entry()
    if not isinstance(strip, bytes):
        return entry | {"file": None, "reason": "the environment did not repeat this episode from its seed"}
    name = f"filmstrips/{group}-{outcome.plan.seed}-{'success' if outcome.success else 'failure'}.jpg"
    atomic_write_bytes(folder / name, strip)
    return entry | {"file": name}


def _actions(policy: Policy, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Compare what the policy did with what the expert would have done, where there is one."""
    dimensions = policy.contract.robot.action
    done: NDArray[np.float32] = np.concatenate([outcome.actions for outcome in outcomes])
    advice = [outcome.expert for outcome in outcomes if outcome.expert is not None]
    if len(advice) != len(outcomes):
        return {"dimensions": action_histograms(dimensions, {"policy": done}), "expert": None}
    expert = np.concatenate(advice)
    distance = np.abs(done - expert).mean(axis=0)
    return {
        "dimensions": action_histograms(dimensions, {"policy": done, "expert": expert}),
        "expert": EXPERT,
        "mean_difference": {
            dimension.name: round(float(value), 6)
            for dimension, value in zip(dimensions, distance, strict=True)
        },
    }


def _rate(outcomes: Sequence[Outcome]) -> Rate:
    return Rate.of([outcome.success for outcome in outcomes])


def _summary(overall: Rate, families: Mapping[str, Rate], probe: Rate | None) -> list[str]:
    lines = [f"success {overall} over {overall.episodes} episodes"]
    lines += [f"  {family:<10} {rate:5} over {rate.episodes} episodes" for family, rate in families.items()]
    if probe:
        lines.append(
            f"  {'swap probe':<10} {probe:5} of {probe.episodes} episodes reach the original goal "
            "under another object's instruction"
        )
    return lines


def _line(outcome: Outcome) -> str:
    return json.dumps(outcome.log_entry(), ensure_ascii=False) + "\n"
