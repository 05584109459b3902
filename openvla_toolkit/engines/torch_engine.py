"""The optimizer step of all engines of this package; what they differ in is where a module is placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openvla_toolkit.checkpoints.training_state import (
    host_copy,
    load_optimizer,
    load_random,
    save_state,
    whole_copies,
)
from openvla_toolkit.core.batches import on_device
from openvla_toolkit.core.errors import NotFinite, TrainingError
from openvla_toolkit.core.parameter_groups import set_learning_rate
from openvla_toolkit.core.processes import lost_ranks_named
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.core.step_totals import StepTotals
from openvla_toolkit.engines import TorchEngineConfig
from openvla_toolkit.engines.averages import Averages, refuse_averages
from openvla_toolkit.engines.building import adamw, fill_gradients, trained_parameters, with_last
from openvla_toolkit.interfaces.engine import LossFunction, StepReport

__all__ = ["Placement", "TorchEngine"]


class Placement(Protocol):
    """Where a module lives, and when its gradients travel."""

    device: torch.device

    def place(self, module: nn.Module) -> nn.Module:
        """Place the module, in which names of parameters stay; return what is to be called in its place."""
        ...

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Surround the forward and backward pass of a micro-batch, the step's last one or not.

        After the last one every gradient is the mean over the ranks of the sums over their micro-batches.
        """
        ...

    def forget(self) -> None:
        """Let go of what a pass has gathered of weights that have changed since."""
        ...


class TorchEngine:
    """Accumulates by summing: the gradient of a step is that of the mean over all its items, however they
    were split into micro-batches and ranks."""

    def __init__(self, config: TorchEngineConfig, placement: Placement) -> None:
        self._placement = placement
        self._device = placement.device
        self._bf16 = config.precision == "bf16"
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._module: nn.Module
        self._called: nn.Module
        self._trained: Mapping[str, nn.Parameter]
        self._optimizer: torch.optim.AdamW
        self._averages: Averages | None = None

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Place the module and build AdamW over what requires gradients.

        Raises:
            TrainingError: nothing requires gradients.
        """
        trained_parameters(module)  # a refusal comes before any work
        self._module = module.train()
        self._called = self._placement.place(module)
        # Taken once: after a pass without gradients FSDP leaves other tensors in the module for a while.
        self._trained = trained_parameters(module)
        self._optimizer = adamw(module, optimizer)
        if optimizer.ema is not None:
            self._averages = Averages(optimizer.ema, self._trained)

    def step(
        self,
        micro_batches: Iterable[Mapping[str, NDArray[np.generic]]],
        loss: LossFunction,
        *,
        lr: float,
        clip_norm: float | None,
    ) -> StepReport:
        """Take one optimizer step (see ``interfaces.engine.Engine``)."""
        self._optimizer.zero_grad(set_to_none=True)
        totals = StepTotals()
        with lost_ranks_named():
            for batch, last in with_last(micro_batches):
                tensors = on_device(batch, self._device)
                with self._placement.micro_batch(last=last):
                    with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext():
                        report = loss(self._called, tensors)
                    report.total.backward()  # type: ignore[no-untyped-call]
                totals.add(report)
            totals.close()
            if not totals.count:
                raise TrainingError("the step's batch holds nothing to learn from: every label is masked.")
            norm = self._update(totals, lr=lr, clip_norm=clip_norm)
        return StepReport(loss=totals.loss, grad_norm=norm, metrics=totals.metrics)

    def _update(self, totals: StepTotals, *, lr: float, clip_norm: float | None) -> float:
        groups = self._optimizer.param_groups
        parameters: list[nn.Parameter] = [one for group in groups for one in group["params"]]
        fill_gradients(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        # Sums over items became means over ranks on the way: this makes them means over items.
        torch._foreach_mul_(gradients, Ranks.here().world_size / totals.count)  # torch's only fused scaling
        total: Any = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        if not (math.isfinite(totals.loss) and math.isfinite(norm)):
            self._optimizer.zero_grad(set_to_none=True)
            raise NotFinite(loss=totals.loss, grad_norm=norm)
        set_learning_rate(groups, lr)
        self._optimizer.step()
        if self._averages is not None:
            self._averages.follow()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def save(self) -> Callable[[Path], None]:
        """Copy AdamW's moments and torch's random state; return what writes them."""
        moments = {
            f"{key}/{name}": host_copy(value)
            for name, parameter in self._trained.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }
        averaged = 0
        if self._averages is not None:
            averaged = self._averages.steps
            for key, values in self._averages.moments().items():
                moments |= {f"{key}/{name}": host_copy(value) for name, value in values.items()}
        return save_state(moments, self._device, trained=self._trained, averaged=averaged)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote, under this or another engine, by this or another number of ranks.

        Raises:
            CheckpointError: the state is damaged, or of other parameters; names the first. Or it has a
                running mean and this training keeps none, or the other way round.
        """
        moments = load_optimizer(folder, self._trained)
        if self._averages is not None:
            self._averages.restore(moments, folder)
        else:
            refuse_averages(moments, folder)
        for name, values in moments.items():
            self._optimizer.state[self._trained[name]] = values
        load_random(folder, self._device)

    def full_weights(self, names: Collection[str] | None = None) -> Mapping[str, Tensor]:
        """Return copies of the module's state on the CPU, all of it or what is named, on rank 0."""
        state = self._module.state_dict()
        if self._averages is not None:
            state |= self._averages.used()
        wanted = set(state if names is None else names)
        with lost_ranks_named():
            return whole_copies((name, value) for name, value in state.items() if name in wanted)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Surround passes that measure what checkpoints hold."""
        if self._averages is None:
            yield
            return
        try:
            with self._averages.in_place():
                self._placement.forget()
                yield
        finally:
            self._placement.forget()
