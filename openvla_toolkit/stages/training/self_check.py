"""Does a checkpoint act as it was trained? On frames of its training, from its files.

Two ways lead through a policy: one pass over prompt and recorded actions, as in training, and one id after
the other, as when it acts. Where they part, a policy trains well and fails on the robot.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from openvla_toolkit.core.batches import on_device
from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.errors import NotAsTrained
from openvla_toolkit.core.hooks import Facts, Observers
from openvla_toolkit.core.sections import SelfCheck
from openvla_toolkit.core.statistics import normalize, unnormalize
from openvla_toolkit.core.storage import atomic_write_text
from openvla_toolkit.core.types import Observation, Sample
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.stages.prepare import Prepared, sources

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.action_head import LossReport

__all__ = ["SELF_CHECK_FILE", "self_check"]

SELF_CHECK_FILE = "self_check.json"

_BATCH = 8
_LEAST = {torch.float32: 1.0}
_LEAST_ROUNDED = 0.9
"""Share of ids that must agree, near ties left aside."""
_TIE = {torch.float32: 1e-3}
_TIE_ROUNDED = 0.1
"""A logit that leads the next one by less may lose to it by rounding: both answers are right."""
_BIN = 2 / 100
"""How far a number may be from the recorded one that has the same id, normalised: more than the width of a
bin, much less than what a wrong sign, scale or statistic makes."""
_FLAT = 0.01
"""A dimension counts as constant when it varies less than this share of the data's own deviation."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frames:
    """What was compared of N frames; actions are normalised."""

    names: Sequence[str]
    """Data set and instruction of every frame."""
    recorded: NDArray[np.float64]
    """[N, H x A]"""
    acted: NDArray[np.float64]
    """[N, H x A]"""
    ids: NDArray[np.int64] | None
    """[N, H x A] chosen while acting."""
    forced: NDArray[np.int64] | None
    """[N, H x A] chosen after the recorded ids."""
    lead: NDArray[np.float64] | None
    """[N, H x A] by how much its logit leads the next one."""
    right: NDArray[np.bool_] | None
    """[N, H x A] where that is the recorded id."""
    told: NDArray[np.float64] | None
    """[N, H x A] distance to the recorded actions as training reports it."""


def self_check(
    section: SelfCheck,
    prepared: Sequence[Prepared],
    policy: Policy,
    *,
    checkpoint: Path,
    output: Path,
    tell: Facts,
    beside: Sequence[Mapping[str, Any]] = (),
) -> list[Mapping[str, Any]]:
    """Compare acting with teacher forcing; write and return the figures, none where there is no robot.

    Args:
        beside: figures of other checkpoints of the run, which stand in the same file.

    Raises:
        NotAsTrained: they disagree, unless ``section.action`` is ``warn``.
    """
    robots = [item for item in prepared if item.robot is not None]
    if section.action == "off" or not robots:
        return []
    frames = _compared(policy, robots, section.frames, tell)
    figures = _figures(frames, policy)
    figures = {"checkpoint": checkpoint.name, "summary": _summary(figures, checkpoint.name), **figures}
    together = [*beside, figures]
    atomic_write_text(output / SELF_CHECK_FILE, json.dumps({"checkpoints": together}, indent=1))
    for warning in figures["warnings"]:
        _log.warning("self-check of %s: %s", checkpoint.name, warning)
    if figures["problems"]:
        said = " ".join(figures["problems"])
        if section.action == "error":
            raise NotAsTrained(
                f"{checkpoint} does not act as it was trained: {said} The checkpoint is kept. If this is a "
                "policy, head or processor of your own, see docs/explanation/self-check.md; "
                "train.self_check=warn goes on all the same."
            )
        _log.warning("%s does not act as it was trained: %s", checkpoint, said)
    return together


def _compared(policy: Policy, robots: Sequence[Prepared], count: int, tell: Facts) -> _Frames:
    """Act on evenly spaced frames of every data set, and run them through the loss."""
    samples = list(_samples(policy.contract, robots, count, framed=True))
    acted, ids = _acted(policy, list(_samples(policy.contract, robots, count, framed=False)))
    forced, lead, right, distances = [], [], [], []
    for first in range(0, len(samples), _BATCH):
        report = _forced(policy, samples[first : first + _BATCH])
        if report.chosen is not None:
            forced.append(report.chosen.cpu().numpy())
            right.append(report.details["token_accuracy"][0].bool().cpu().numpy())
        if report.lead is not None:
            lead.append(report.lead.double().cpu().numpy())
        if (pair := report.details.get("l1")) is not None:
            distances.append(pair[0].double().cpu().numpy())
        done = min(first + _BATCH, len(samples))
        tell.metrics_logged(stage="self-check", step=done, values={"total": len(samples)})
    return _Frames(
        names=[f"{sample.dataset}: '{sample.instruction}'" for sample in samples],
        recorded=np.stack([sample.actions.reshape(-1) for sample in samples]).astype(np.float64),
        acted=acted,
        ids=ids,
        forced=np.concatenate(forced) if forced else None,
        lead=np.concatenate(lead) if lead else None,
        right=np.concatenate(right) if right else None,
        told=np.concatenate(distances) if distances else None,
    )


def _samples(contract: Contract, robots: Sequence[Prepared], count: int, *, framed: bool) -> Iterator[Sample]:
    members, _ = sources(robots, contract, framed=framed, seed=0, tell=Observers().tell)
    for member, share in zip(members, np.diff(np.linspace(0, count, len(members) + 1).round()), strict=True):
        for position in np.unique(np.linspace(0, len(member) - 1, int(share)).astype(int)):
            sample = member.sample(int(position), number=0)
            assert isinstance(sample, Sample)
            yield sample


def _acted(policy: Policy, samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Return normalised actions [N, H x A] and the ids behind them, predicted in the robot's units."""
    rule = policy.contract.normalization.model_copy(update={"clip": False})
    actions, ids = [], []
    for dataset, group in groupby(samples, key=lambda sample: sample.dataset):
        own = list(group)
        statistics = policy.statistics[dataset]
        for first in range(0, len(own), _BATCH):
            observations = [_observation(policy, sample) for sample in own[first : first + _BATCH]]
            for chunk in policy.predict_chunks(observations, unnorm_key=dataset):
                actions.append(normalize(chunk.actions, statistics.action, rule).reshape(-1))
                if chunk.tokens is not None:
                    ids.append(chunk.tokens.reshape(-1))
    return np.stack(actions), np.stack(ids) if ids else None


def _observation(policy: Policy, sample: Sample) -> Observation:
    moments = policy.statistics[sample.dataset].proprio
    state = None
    if sample.state is not None and moments is not None:
        state = unnormalize(sample.state, moments, policy.contract.normalization).astype(np.float32)
    return Observation(images=sample.images, instruction=sample.instruction, state=state)


def _forced(policy: Policy, samples: Sequence[Sample]) -> LossReport:
    device = next(policy.module.parameters()).device
    batch = policy.processor.collate([policy.processor.encode(sample) for sample in samples])
    training = policy.module.training
    policy.module.eval()
    try:
        with torch.no_grad():
            return policy.loss(policy.module, on_device(batch, device))
    finally:
        policy.module.train(training)


def _figures(frames: _Frames, policy: Policy) -> dict[str, Any]:
    problems: list[str] = []
    figures: dict[str, Any] = {"frames": len(frames.names)}
    if frames.ids is not None and frames.forced is not None:
        figures |= _agreement(frames, policy, problems)
    elif frames.told is not None:
        figures |= _distance(frames, problems)
    else:
        figures["not_compared"] = (
            "the head tells neither ids nor a distance, so only constancy was looked at."
        )
    flat, moving = _flat(frames, policy), _moving(frames, policy)
    warnings = []
    if flat and len(flat) == len(moving):
        warnings.append(
            f"the policy answers {len(frames.names)} different frames with the same action: it does not "
            "look, or has not learned yet."
        )
    elif flat:
        warnings.append(f"hardly any change, whatever is seen, while the data vary: {', '.join(flat)}.")
    return {**figures, "constant": flat, "warnings": warnings, "problems": problems}


def _summary(figures: Mapping[str, Any], checkpoint: str) -> list[str]:
    """Say in one line how the check went; warnings stand below it."""
    if "ids_compared" in figures:
        said = f"{figures['ids_agreed']:.1%} of {figures['ids_compared']} ids as in training"
        said += f", {ties} near ties left aside" if (ties := figures["near_ties"]) else ""
    elif "l1_acting" in figures:
        said = f"L1 {figures['l1_acting']:.4f} acting, {figures['l1_training']:.4f} in training"
    else:
        said = figures["not_compared"]
    return [f"self-check of {checkpoint}: {said}, {figures['frames']} frames", *figures["warnings"]]


def _agreement(frames: _Frames, policy: Policy, problems: list[str]) -> dict[str, Any]:
    """Compare ids where what stands before them is the same, and numbers where the ids are."""
    assert frames.ids is not None
    assert frames.forced is not None
    assert frames.right is not None
    ids, forced = frames.ids, frames.forced
    same = ids == forced
    # Up to where acting has said the recorded ids, both ways have the same before them.
    so_far = np.logical_and.accumulate(same & frames.right, axis=1)
    comparable = np.concatenate([np.ones_like(so_far[:, :1]), so_far[:, :-1]], axis=1)
    dtype = next(policy.module.parameters()).dtype
    tied = np.zeros_like(same) if frames.lead is None else frames.lead < _TIE.get(dtype, _TIE_ROUNDED)
    ties, comparable = comparable & tied & ~same, comparable & ~(tied & ~same)
    agreed = float(same[comparable].mean()) if comparable.any() else 1.0
    least = _LEAST.get(dtype, _LEAST_ROUNDED)
    if agreed < least:
        row = int(np.argwhere(comparable & ~same)[0, 0])
        problems.append(
            f"of {int(comparable.sum())} ids, {agreed:.1%} agree, and at least {least:.0%} should; the first "
            f"that does not is of {frames.names[row]}: acting chooses {ids[row].tolist()}, the pass over the "
            f"recorded actions {forced[row].tolist()}. Prompt, pictures, padding or cache differ between the "
            "two ways."
        )
    # Where acting says the recorded id, whatever stands before it, it must mean the recorded number.
    exact = same & frames.right
    off = np.where(exact, np.abs(frames.acted - np.clip(frames.recorded, -1, 1)), 0)
    if off.max() > _BIN:
        row = int(off.max(axis=1).argmax())
        problems.append(
            f"with the recorded id, a number is {off.max():.3g} from the recorded one, normalised "
            f"({frames.names[row]}): acting gives {_short(frames.acted[row])}, recorded is "
            f"{_short(frames.recorded[row])}. The statistics, or the way ids become actions, differ."
        )
    return {
        "ids_compared": int(comparable.sum()),
        "ids_agreed": agreed,
        "near_ties": int(ties.sum()),
        "numbers_compared": int(exact.sum()),
        "largest_difference": float(off.max()),
    }


def _distance(frames: _Frames, problems: list[str]) -> dict[str, Any]:
    """Compare the distance of every number to the recorded one with what training reports."""
    assert frames.told is not None
    found = np.abs(frames.acted - frames.recorded)
    found[(frames.acted == 0) & (frames.recorded == 0)] = 0  # numbers without a range, whatever is predicted
    told = np.where(found == 0, 0, frames.told)
    off = np.abs(found - told) > 1e-3 + 1e-2 * told
    if off.any():
        row = int(off.any(axis=1).argmax())
        problems.append(
            f"{int(off.sum())} of {off.size} numbers are not as far from the recorded ones as training "
            f"reports; the first of {frames.names[row]}: acting is {_short(found[row])} away, normalised, "
            f"training reports {_short(told[row])}."
        )
    return {"l1_acting": float(found.mean()), "l1_training": float(told.mean())}


def _flat(frames: _Frames, policy: Policy) -> list[str]:
    """Return the dimensions that hardly vary over the frames, although those of the data do."""
    moving = _moving(frames, policy)
    acted = _deviations(frames.acted, policy)
    return [name for name, deviation in moving.items() if acted[name] < _FLAT * deviation]


def _moving(frames: _Frames, policy: Policy) -> dict[str, float]:
    """Return the dimensions that vary in the data, and how much."""
    recorded = _deviations(frames.recorded, policy)
    return {name: deviation for name, deviation in recorded.items() if deviation > _BIN}


def _deviations(actions: NDArray[np.float64], policy: Policy) -> dict[str, float]:
    """Return the standard deviation of the first action's dimensions."""
    names = [dimension.name for dimension in policy.contract.robot.action]
    first = actions.reshape(len(actions), -1, len(names))[:, 0]
    return dict(zip(names, first.std(axis=0).tolist(), strict=True))


def _short(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in values]
