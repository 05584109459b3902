"""The train stage: batches in, checkpoints out; it can stop at any step and go on as if it had not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from openvla_toolkit.checkpoints.layout import STATE_FILE, TRAINING_STATE, checkpoints_of
from openvla_toolkit.core.errors import ContractMismatch, RunInterrupted, UserError
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.sections import Train
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.interfaces.engine import Engine
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.pipeline.loader import Batch, accumulated, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, micro_batches
from openvla_toolkit.stages.meter import Meter
from openvla_toolkit.stages.prepare import Prepared, sources
from openvla_toolkit.stages.schedule import learning_rate
from openvla_toolkit.stages.signals import StopRequest

__all__ = ["train"]


def train(
    section: Train,
    policy: Policy,
    prepared: Sequence[Prepared],
    *,
    seed: int,
    output: Path,
    tell: Facts,
    resumed_from: Path | None = None,
) -> Path:
    """Train the policy and return the folder of the last checkpoint.

    Args:
        resumed_from: the checkpoint that ``policy`` was loaded from, to go on from there.

    Raises:
        RunInterrupted: a signal came; a checkpoint was saved first.
        TrainingError: loss or gradients are not finite.
        ContractMismatch: the policy does not frame pictures as it is to be trained on them.
    """
    _check_frames(section, policy)
    engine: Engine = section.engine.build()
    engine.prepare(policy.module, section.optimizer)
    meter, start = Meter(), 0
    if resumed_from is not None:
        start = _restore(resumed_from, engine, meter)
    stream = _stream(section, policy, prepared, seed=seed, start=start, meter=meter, tell=tell)
    saver = _Saver(policy, engine, meter, output=output, keep=section.keep, tell=tell)
    accumulate = section.batch.total // (section.batch.per_device or section.batch.total)
    done = start
    with StopRequest() as stop, closing(stream):
        for step in range(start, section.steps):
            _take_step(step, section, engine, policy, meter, stream, accumulate)
            done = step + 1
            if done % section.log_every == 0 or done == section.steps:
                tell.metrics_logged(stage="train", step=done, values=meter.flush() | {"total": section.steps})
            if stop.asked or done == section.steps or (section.save_every and done % section.save_every == 0):
                saver.save(done)
            if stop.asked:
                break
    last = saver.last or _finished(resumed_from, start, section.steps)
    if stop.asked:
        raise RunInterrupted(
            f"stopped by {stop.asked} after step {done} of {section.steps}; the state is saved in {last}. "
            "Go on with --resume."
        )
    return last


def _check_frames(section: Train, policy: Policy) -> None:
    promised = policy.contract.images.frame
    if section.frames is not None and section.frames.recipe() != promised:
        raise ContractMismatch(
            f"'train.frames' trains on frames of '{section.frames.recipe()}', and the policy would act on "
            f"'{promised or 'pictures as the camera gives them'}': build it with this 'frame', or leave "
            "'train.frames' out."
        )


def _finished(checkpoint: Path | None, start: int, steps: int) -> Path:
    if checkpoint is None or start > steps:
        raise UserError(f"the checkpoint {checkpoint} is at step {start}, past train.steps={steps}.")
    return checkpoint


def _take_step(
    step: int,
    section: Train,
    engine: Engine,
    policy: Policy,
    meter: Meter,
    stream: Iterator[Batch],
    accumulate: int,
) -> None:
    rate = learning_rate(step, peak=section.optimizer.lr, steps=section.steps, schedule=section.schedule)
    began = time.perf_counter()
    micro = meter.waiting(accumulated(stream, accumulate))
    report = engine.step(micro, policy.loss, lr=rate, clip_norm=section.clip_norm)
    meter.add(report, lr=rate, samples=section.batch.total, seconds=time.perf_counter() - began)


def _stream(
    section: Train,
    policy: Policy,
    prepared: Sequence[Prepared],
    *,
    seed: int,
    start: int,
    meter: Meter,
    tell: Facts,
) -> Generator[Batch, None, None]:
    augment = None if section.frames is None else section.frames.augment
    members, shares = sources(prepared, policy.contract, augment=augment, seed=seed, tell=tell)
    numbers = micro_batches(
        start=start,
        stop=section.steps,
        total=section.batch.total,
        per_device=section.batch.per_device or section.batch.total,
    )
    return batches(
        members,
        MixtureSampler(shares, seed=seed, shuffle=section.loader.shuffle),
        policy.processor,
        numbers,
        loader=section.loader,
        skipped=meter.skip,
    )


def _restore(checkpoint: Path, engine: Engine, meter: Meter) -> int:
    """Load the training state and return the step to go on with."""
    folder = checkpoint / TRAINING_STATE
    engine.load(folder)
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    meter.restore(state["meter"])
    return int(state["step"])


class _Saver:
    """Writes checkpoints whole and keeps the newest few."""

    def __init__(
        self, policy: Policy, engine: Engine, meter: Meter, *, output: Path, keep: int, tell: Facts
    ) -> None:
        self._policy, self._engine, self._meter = policy, engine, meter
        self._output, self._keep, self._tell = output, keep, tell
        self.last: Path | None = None

    def save(self, step: int) -> None:
        path = self._output / "checkpoints" / f"step-{step:06d}"
        with atomic_folder(path, replace=True) as folder:
            self._policy.save(folder, weights=self._engine.full_weights())
            state = folder / TRAINING_STATE
            state.mkdir()
            self._engine.save(state)
            (state / STATE_FILE).write_text(json.dumps({"step": step, "meter": self._meter.state()}))
        self.last = path
        self._tell.checkpoint_saved(step=step, path=path)
        for old in checkpoints_of(self._output)[: -self._keep]:
            _remove(old)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; one that is half gone must not look whole."""
    condemned = checkpoint.with_name(f"{checkpoint.name}.partial-removed")
    checkpoint.rename(condemned)
    shutil.rmtree(condemned)
