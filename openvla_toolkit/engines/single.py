"""The plain engine: one process, one device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from openvla_toolkit.checkpoints.tensors import write_tensors
from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import CheckpointError, TrainingError
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.interfaces.engine import LossFunction, StepReport

if TYPE_CHECKING:
    from openvla_toolkit.engines import SingleConfig

__all__ = ["SingleEngine", "parameter_groups"]

_OPTIMIZER, _RANDOM = "optimizer.safetensors", "random.safetensors"


class SingleEngine:
    """Accumulates by summing: the gradient of a step is that of the mean over all its items, however they
    were split into micro-batches."""

    def __init__(self, config: SingleConfig) -> None:
        self._device = usable_device(config.device, setting="train.engine.device")
        self._bf16 = config.precision == "bf16"
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._module: nn.Module
        self._optimizer: torch.optim.AdamW

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Move the module to the device and build AdamW over what requires gradients.

        Raises:
            TrainingError: nothing requires gradients.
        """
        self._module = module.to(self._device).train()
        groups = parameter_groups(module, weight_decay=optimizer.weight_decay)
        if not groups:
            raise TrainingError("no parameter of the policy requires gradients: there is nothing to train.")
        self._optimizer = torch.optim.AdamW(
            groups, lr=optimizer.lr, betas=optimizer.betas, eps=optimizer.eps, fused=True
        )

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
        total, count = 0.0, 0.0
        sums: dict[str, list[float]] = {}
        for batch in micro_batches:
            tensors = {key: torch.from_numpy(array).to(self._device) for key, array in batch.items()}
            with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext():
                report = loss(self._module, tensors)
            report.total.backward()  # type: ignore[no-untyped-call]
            total, count = total + report.total.item(), count + report.count.item()
            for name, (value, weight) in report.metrics.items():
                entry = sums.setdefault(name, [0.0, 0.0])
                entry[0] += value.item()
                entry[1] += weight.item()
        if not count:
            raise TrainingError("the step's batch holds nothing to learn from: every label is masked.")
        norm = self._update(scale=1.0 / count, lr=lr, clip_norm=clip_norm, loss=total / count)
        metrics = {name: value / weight for name, (value, weight) in sums.items() if weight}
        return StepReport(loss=total / count, grad_norm=norm, metrics=metrics)

    def _update(self, *, scale: float, lr: float, clip_norm: float | None, loss: float) -> float:
        groups = self._optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, scale)  # the only fused in-place scaling torch has
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._optimizer.zero_grad(set_to_none=True)
            raise TrainingError(
                f"loss {loss} or gradient norm {norm} is not finite; lower train.optimizer.lr, keep "
                "train.clip_norm on, or train in fp32."
            )
        for group in groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def save(self, folder: Path) -> None:
        """Write AdamW's moments under the parameters' names, and torch's random state.

        Raises:
            StorageError: the disk is full or refuses to be written.
        """
        names: dict[Any, str] = {parameter: name for name, parameter in self._module.named_parameters()}
        tensors = {
            f"{key}/{names[parameter]}": value.detach().cpu().contiguous()
            for parameter, state in self._optimizer.state.items()
            for key, value in state.items()
        }
        write_tensors(folder / _OPTIMIZER, tensors)
        random = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._device)
        write_tensors(folder / _RANDOM, random)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote.

        Raises:
            CheckpointError: the state is damaged, or of other parameters; names the first.
        """
        parameters = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        for key, value in _read(folder / _OPTIMIZER).items():
            kind, name = key.split("/", 1)
            parameter = parameters.get(name)
            if parameter is None or (kind != "step" and value.shape != parameter.shape):
                found = (
                    "does not train it" if parameter is None else f"gives it shape {list(parameter.shape)}"
                )
                raise CheckpointError(
                    f"{folder / _OPTIMIZER} holds '{key}' {list(value.shape)}, and this policy {found}: "
                    "it is a checkpoint of other settings."
                )
            self._optimizer.state[parameter][kind] = value.to(parameter.device)
        random = _read(folder / _RANDOM)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and self._device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self._device)

    def full_weights(self) -> Mapping[str, Tensor]:
        """Return the module's state on the CPU."""
        return {name: value.detach().cpu() for name, value in self._module.state_dict().items()}


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Split what requires gradients: no decay for vectors and biases (the original's FSDP rule)."""
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name.endswith(".bias") else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Go on from another checkpoint.") from error
