"""The train stage: batches in, checkpoints out; it can stop at any step and go on as if it had not."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import torch

from openvla_toolkit.checkpoints.layout import TRAINING_STATE
from openvla_toolkit.core.errors import (
    ContractMismatch,
    RecipeError,
    RunInterrupted,
    TrainingError,
    did_you_mean,
)
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.processes import agreed
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import KeepBest, Train
from openvla_toolkit.interfaces.engine import Engine
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.pipeline.loader import Batch, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, micro_batches
from openvla_toolkit.stages.claim import check_length
from openvla_toolkit.stages.prepare import Prepared, sources
from openvla_toolkit.stages.signals import StopRequest
from openvla_toolkit.stages.training.saver import Saver, loop_state
from openvla_toolkit.stages.training.steps import Steps, samples_at_a_time
from openvla_toolkit.stages.training.validation import STAGE, Validator

__all__ = ["train"]


def train(
    section: Train,
    policy: Policy,
    prepared: Sequence[Prepared],
    *,
    seed: int,
    output: Path,
    tell: Facts,
    held_out: Sequence[Prepared] = (),
    sample_flops: float | None = None,
    resumed_from: Path | None = None,
) -> Path:
    """Train the policy and return the folder of the last checkpoint.

    Args:
        held_out: what is measured while training (``train.validation``).
        sample_flops: operations that learning from one sample takes; None where it is not known.
        resumed_from: the checkpoint that ``policy`` was loaded from, to go on from there.

    Raises:
        RunInterrupted: a signal came; a checkpoint was saved first.
        TrainingError: loss or gradients are not finite; what there was before is saved.
        RecipeError: ``keep_best`` names a figure that held-out data do not have.
        UserError: the checkpoint is past the end of the training.
        CheckpointError: it cannot be read.
        ContractMismatch: the policy does not frame pictures as it is to be trained on them.
    """
    _check_frames(section, policy)
    if resumed_from is not None:
        check_length(resumed_from, steps=section.steps)
    ranks = Ranks.here()
    engine: Engine = section.engine.build()
    engine.prepare(policy.module, section.optimizer)
    if not ranks.is_first:
        torch.manual_seed(seed + ranks.rank)  # all have the same weights, and each a dropout of its own
    steps = Steps(section, policy, engine, prepared, sample_flops=sample_flops)
    validator = None
    if section.validation:
        validator = Validator(section, policy, held_out, engine=engine, seed=seed, tell=tell)
    start = 0 if resumed_from is None else _restore(resumed_from, engine, steps, validator)
    stream = _stream(section, policy, prepared, steps, seed=seed, start=start, tell=tell)
    saver = Saver(policy, engine, output=output, keep=section.keep, keep_best=section.keep_best, tell=tell)
    if validator is not None:
        # Nothing was trained; nothing was held out before; a signal came before it was measured.
        if not validator.figures or validator.is_due(start, section.steps):
            validator.measure(start, tell)
        _check_metric(section.keep_best, validator)
    done, stopped = start, None
    with StopRequest() as stop, closing(stream):
        while done < section.steps and not (stopped or steps.verdict):
            done += steps.take(done, stream)
            last = done == section.steps
            if not steps.verdict and (last or done % section.log_every == 0):
                tell.metrics_logged(stage="train", step=done, values=steps.flush() | {"total": section.steps})
            if not steps.verdict and validator is not None and validator.is_due(done, section.steps):
                validator.measure(done, tell, stopped=stop.agreed)
            stopped = stop.agreed()
            due = section.save_every and done % section.save_every == 0
            if done > start and (stopped or steps.verdict or last or due):
                saver.save(done, _state(steps, validator, done))
            saver.poll()
        saver.finish()
        agreed(None)  # rank 0 alone gives a checkpoint its name: one that ended before would have it killed
    _end(done, section.steps, steps.verdict, stopped, saved=saver.last or resumed_from)
    return cast("Path", saver.last or resumed_from)


def _check_frames(section: Train, policy: Policy) -> None:
    promised = policy.contract.images.frame
    if section.frames is not None and section.frames.recipe() != promised:
        raise ContractMismatch(
            f"'train.frames' trains on frames of '{section.frames.recipe()}', and the policy would act on "
            f"'{promised or 'pictures as the camera gives them'}': build it with this 'frame', or leave "
            "'train.frames' out."
        )


def _end(done: int, steps: int, verdict: str | None, stopped: int | None, *, saved: Path | None) -> None:
    """Raise what ended the training before it was done."""
    if verdict is not None:
        before = "" if saved is None else f" The state after step {done} is saved in {saved}."
        raise TrainingError(f"{verdict}{before}")
    if stopped:
        name = signal.Signals(stopped).name
        raise RunInterrupted(
            f"stopped by {name} after step {done} of {steps}; the state is saved in {saved}. "
            "Go on with --resume.",
            number=stopped,
        )


def _stream(
    section: Train,
    policy: Policy,
    prepared: Sequence[Prepared],
    steps: Steps,
    *,
    seed: int,
    start: int,
    tell: Facts,
) -> Generator[Batch, None, None]:
    augment = None if section.frames is None else section.frames.augment
    members, shares = sources(prepared, policy.contract, augment=augment, seed=seed, tell=tell)
    numbers = micro_batches(
        start=start,
        stop=section.steps,
        total=section.batch.total,
        per_device=samples_at_a_time(section),
        rank=Ranks.here().rank,
        world_size=Ranks.here().world_size,
    )
    return batches(
        members,
        MixtureSampler(shares, seed=seed, shuffle=section.loader.shuffle),
        policy.processor,
        numbers,
        loader=section.loader,
        skipped=steps.skip,
    )


def _check_metric(keep: KeepBest | None, validator: Validator) -> None:
    """Refuse a figure that held-out data do not have, before any step is taken."""
    measured = validator.figures
    if keep is not None and keep.metric.startswith(f"{STAGE}/") and keep.metric not in measured:
        raise RecipeError(
            f"no figure '{keep.metric}'.{did_you_mean(keep.metric, measured)} There are "
            f"{', '.join(sorted(measured))}.",
            path="train.keep_best",
        )


def _state(steps: Steps, validator: Validator | None, done: int) -> dict[str, Any]:
    """Return the loop's own state, and the figures that a checkpoint is judged by: those of its own step."""
    measured = {} if validator is None else validator.figures
    at = None if validator is None else validator.measured_at
    figures = steps.figures | (measured if at == done else {})
    return {**steps.state(), "figures": figures, "measured": measured, "measured_at": at}


def _restore(checkpoint: Path, engine: Engine, steps: Steps, validator: Validator | None) -> int:
    """Load the training state and return the step to go on with."""
    engine.load(checkpoint / TRAINING_STATE)
    state = loop_state(checkpoint)
    steps.restore(state)
    if validator is not None:
        validator.figures, validator.measured_at = state["measured"], state["measured_at"]
    return int(state["step"])
