"""The optimizer step of DeepSpeed, with the sums, the clipping and the training state of all engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openvla_deepspeed.zero import MOMENTS, ZeRO
from openvla_toolkit.core.errors import CheckpointError, NotFinite, TrainingError
from openvla_toolkit.engines.building import (
    STEP,
    Optimizer,
    Ranks,
    StepTotals,
    adamw,
    host_copy,
    join,
    load_random,
    lost_ranks_named,
    on_device,
    prepare_units,
    read_moments,
    save_state,
    set_learning_rate,
    stored_moments,
    trained_parameters,
    usable_device,
    with_last,
)
from openvla_toolkit.interfaces.engine import LossFunction, StepReport

if TYPE_CHECKING:
    from openvla_deepspeed import DeepSpeedConfig

__all__ = ["DeepSpeedEngine"]

_AT_A_TIME = 16
"""Parameters whose moments are read together: whole, in every rank."""


class DeepSpeedEngine:
    """Accumulates by summing, as all engines do; the division by the number of items comes with the step."""

    def __init__(self, config: DeepSpeedConfig) -> None:
        self._config = config
        self._device = usable_device(config.device, setting="train.engine.device")
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._module: nn.Module
        self._trained: Mapping[str, nn.Parameter]
        self._zero: ZeRO

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Hand module and AdamW to DeepSpeed; rank 0's weights go to all.

        Raises:
            TrainingError: nothing requires gradients.
            UserError: stage 3, and weights are quantised.
        """
        self._trained = trained_parameters(module)
        self._shapes = {name: parameter.shape for name, parameter in self._trained.items()}
        join(Ranks.here(), device=self._device.type)
        prepare_units(module, recompute=self._config.activation_checkpointing)
        self._module = module.train()
        with lost_ranks_named():
            self._zero = ZeRO(module, adamw(module, optimizer), self._config, self._device)

    def step(
        self,
        micro_batches: Iterable[Mapping[str, NDArray[np.generic]]],
        loss: LossFunction,
        *,
        lr: float,
        clip_norm: float | None,
    ) -> StepReport:
        """Take one optimizer step (see ``interfaces.engine.Engine``)."""
        totals = StepTotals()
        with lost_ranks_named():
            self._zero.begin()
            for batch, last in with_last(micro_batches):
                tensors = on_device(batch, self._device)
                report = loss(self._zero.called, tensors)
                totals.add(report)
                total = report.total
                if last:
                    totals.close()
                    if not totals.count:
                        raise TrainingError(
                            "the step's batch holds nothing to learn from: every label is masked."
                        )
                    if not math.isfinite(totals.loss):  # of any rank: DeepSpeed drops what all have summed up
                        total = total * math.nan
                self._zero.called.backward(total)
            set_learning_rate(self._zero.optimizer.param_groups, lr)
            # Sums over items become means over ranks on the way: divided so, they are means over items.
            norm = self._zero.step(scale=totals.count / Ranks.here().world_size, clip_norm=clip_norm)
        if norm is None:
            raise NotFinite(loss=totals.loss, grad_norm=math.nan)
        return StepReport(loss=totals.loss, grad_norm=norm, metrics=totals.metrics)

    def save(self) -> Callable[[Path], None]:
        """Copy AdamW's moments and torch's random state; return what writes them.

        Each rank keeps, and writes, the whole moments of its share of the parameters.
        """
        moments: dict[str, Tensor] = {}
        if (steps := self._zero.steps) is None:
            return save_state(moments, self._device, trained=self._trained)
        names, ranks = list(self._trained), Ranks.here()
        own = set(names[ranks.rank :: ranks.world_size])
        with lost_ranks_named():
            for name, key, whole in self._zero.moments(self._trained):
                if name in own:
                    moments[f"{key}/{name}"] = host_copy(whole)
        moments |= {f"{STEP}/{name}": host_copy(steps) for name in own}
        return save_state(moments, self._device, trained=self._trained)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote, under this or another engine, by this or another number of ranks.

        Raises:
            CheckpointError: the state is damaged, or of other parameters; names the first. Or the parameters
                have taken different numbers of steps, which ZeRO has no place for.
        """
        stored = stored_moments(folder, self._shapes)
        if more := {key for keys in stored.values() for key in keys} - {STEP, *MOMENTS}:
            raise CheckpointError(
                f"{folder} holds '{min(more)}' of each parameter, which the engine 'deepspeed' does not keep "
                "(train.optimizer.ema). Go on with the engine that wrote it."
            )
        if stored:
            self._zero.begin_at(self._steps(folder, stored))
        for names in _split(stored, _AT_A_TIME):
            moments = {name: {key: torch.zeros(self._shapes[name]) for key in MOMENTS} for name in names}
            read_moments(folder, moments)
            for name, own in moments.items():
                for key, whole in own.items():
                    self._zero.set_moment(self._trained[name], key, whole.to(self._device))
        load_random(folder, self._device)

    def full_weights(self, names: Collection[str] | None = None) -> Mapping[str, Tensor]:
        """Return copies of the module's state on the CPU, all of it or what is named, on rank 0."""
        state = self._module.state_dict(keep_vars=True)
        wanted = {name: value for name, value in state.items() if names is None or name in set(names)}
        first = Ranks.here().is_first
        with lost_ranks_named():
            return {name: host_copy(value) for name, value in self._zero.whole(wanted) if first}

    def _steps(self, folder: Path, stored: Iterable[str]) -> Tensor:
        """Return the number of steps that all parameters have taken."""
        steps = {name: {STEP: torch.zeros(())} for name in stored}
        read_moments(folder, steps)
        taken = {name: own[STEP] for name, own in steps.items()}
        taken |= {name: torch.zeros(()) for name in self._trained if name not in taken}
        first, *rest = taken
        for name in rest:
            if taken[name] != taken[first]:
                raise CheckpointError(
                    f"{folder} has {taken[first]:.0f} steps of '{first}' and {taken[name]:.0f} of '{name}', "
                    "which the engine 'deepspeed' counts together. Go on with the engine that wrote it."
                )
        return taken[first]


def _split(names: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(names)
    while part := list(islice(iterator, size)):
        yield part
