"""DeepSpeed itself: how it is started, and whole tensors out of what it has spread."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvla_toolkit.engines.building import Ranks, refuse_quantised

if TYPE_CHECKING:
    from openvla_deepspeed import DeepSpeedConfig

__all__ = ["MOMENTS", "ZeRO"]

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter, besides the number of steps."""

_world: object = None
"""The processes that DeepSpeed remembers."""


class ZeRO:
    """A module and its AdamW in DeepSpeed's hands.

    Parameters stay fp32; with bf16 DeepSpeed computes under autocast, and weights of linear layers and their
    gradients travel in bf16.
    """

    def __init__(
        self, module: nn.Module, adamw: torch.optim.AdamW, config: DeepSpeedConfig, device: torch.device
    ) -> None:
        self._spread, self._offloaded = config.stage == 3, config.offload != "none"
        if self._spread:
            refuse_quantised(
                module, spread_by="stage 3 of the engine 'deepspeed'", instead="train.engine.stage=2"
            )
        deepspeed = _imported(device)
        self._gathered = deepspeed.zero.GatheredParameters
        self._tensors = deepspeed.utils
        self.called, self.optimizer, *_ = deepspeed.initialize(
            model=module, optimizer=adamw, config=_settings(config), dist_init_required=False
        )
        self.optimizer.override_loss_scale(1.0)

    def begin(self) -> None:
        """Forget the last step's gradients, which DeepSpeed takes again for what this step does not reach."""
        held = [self.optimizer.grad_partitions_flat_buffer] if self._spread else []
        if self._offloaded:
            held += [flat.grad for flat in self._flat if flat.grad is not None]
            held += [] if self._spread else self.optimizer.accumulated_grads_in_cpu.values()
        for gradients in held:
            gradients.zero_()

    def step(self, *, scale: float, clip_norm: float | None) -> float | None:
        """Divide gradients by ``scale``, clip and update; return their norm, None where it is not finite."""
        self.optimizer.external_loss_scale = scale  # in step alone: the backward pass does not multiply
        self.optimizer.clip_grad = clip_norm or 0.0
        self.called.step()
        self.optimizer.external_loss_scale = 1.0
        return None if self.optimizer.overflow else float(self.called.get_global_grad_norm())

    def whole(self, values: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters and buffers whole, one after the other; all ranks take part."""
        for name, value in values.items():
            if hasattr(value, "ds_id"):
                with self._gathered([value]):
                    yield name, value
            else:
                yield name, value

    @property
    def steps(self) -> Tensor | None:
        """How many steps AdamW has taken; None before the first."""
        steps: Tensor | None = self._adamw.state.get(self._flat[0], {}).get("step")
        return steps

    def moments(self, trained: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, str, Tensor]]:
        """Yield name, key and value of every moment, whole, one after the other; all ranks take part."""
        self._find_moments()
        for name, parameter in trained.items():
            for key in MOMENTS:
                yield name, key, self._tensors.safe_get_full_optimizer_state(parameter, key)

    def begin_at(self, steps: Tensor) -> None:
        """Give AdamW empty moments, as after that many steps, for ``set_moment`` to fill."""
        for flat in self._flat:
            empty = {key: torch.zeros_like(flat, requires_grad=False) for key in MOMENTS}
            self._adamw.state[flat] = {"step": steps.to(flat.device, copy=True), **empty}
        self._find_moments()

    def set_moment(self, parameter: nn.Parameter, key: str, whole: Tensor) -> None:
        """Take this rank's part of a moment."""
        if not self._spread:
            self._tensors.safe_set_full_optimizer_state(parameter, whole, key)
            return
        # DeepSpeed's function for the whole tensor fails where the ranks do not divide it.
        size, ranks = parameter.ds_tensor.numel(), Ranks.here()  # type: ignore[attr-defined]
        padded = F.pad(whole.flatten(), (0, size * ranks.world_size - whole.numel()))
        self._tensors.safe_set_local_optimizer_state(
            parameter, padded.narrow(0, size * ranks.rank, size), key
        )

    def _find_moments(self) -> None:
        """Tie parameters to their moments, which DeepSpeed does for the first group of parameters alone."""
        if not self._spread:
            for parameters, flat in zip(self.optimizer.bit16_groups, self._flat, strict=True):
                self._tensors.lazy_init_hp_params_optimizer_state(parameters, flat, self._adamw.state)

    @property
    def _adamw(self) -> torch.optim.AdamW:
        adamw: torch.optim.AdamW = self.optimizer.optimizer
        return adamw

    @property
    def _flat(self) -> list[Tensor]:
        """Return this rank's parts, many parameters in one, as AdamW sees them."""
        name = "fp32_partitioned_groups_flat" if self._spread else "single_partition_of_fp32_groups"
        parts: list[Tensor] = getattr(self.optimizer, name)
        return parts


def _imported(device: torch.device) -> Any:
    """Import DeepSpeed for a kind of device, and have it say only what matters."""
    global _world
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ["LOCAL_RANK"] = _number(device)  # it insists on this one, and takes the device of that number
    import deepspeed  # type: ignore[import-untyped]

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # torch's new names for what DeepSpeed calls in every step: nothing that a user could change.
    warnings.filterwarnings(
        "ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning
    )
    # A faster way between processes on CPUs, which is compiled for half a minute; gloo is there already.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if (world := torch.distributed.group.WORLD) is not _world:
        if _world is not None:  # a second run in this process, whose processes have met anew
            deepspeed.utils.groups._release_process_group_references()
        _world = world
    return deepspeed


def _number(device: torch.device) -> str:
    """Return the number of a CUDA device, and of a process among those on a CPU."""
    if device.type != "cuda":
        return str(Ranks.here().local_rank)
    return str(torch.cuda.current_device() if device.index is None else device.index)


def _settings(config: DeepSpeedConfig) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": config.stage, **config.zero}
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if config.offload == "parameters":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # for its own counting; so is the next
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW needs no compiler
        "zero_optimization": zero,
        "torch_autocast": {"enabled": config.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": None,
    }
