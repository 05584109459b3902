"""Parameters, gradients and optimizer state spread over the ranks, block by block (FSDP2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.processes import join
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.units import prepare_units, shard_units
from openvla_toolkit.engines.building import refuse_quantised

if TYPE_CHECKING:
    from openvla_toolkit.engines import FSDPConfig

__all__ = ["Sharded"]

_PRECISION = {
    "fp32": MixedPrecisionPolicy(),
    "bf16": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
}


class Sharded:
    """``fully_shard`` on every block and on what is left (see ``engines.torch_engine.Placement``).

    With bf16 the parameters travel and compute in bf16; the shards that the optimizer updates, and the sums
    of gradients, are fp32.
    """

    def __init__(self, config: FSDPConfig) -> None:
        self._config = config
        self.device = usable_device(config.device, setting="train.engine.device")
        self._spread: list[FSDPModule] = []

    def place(self, module: nn.Module) -> nn.Module:
        """Leave each rank its part of the module.

        Raises:
            UserError: the ranks do not divide into groups, weights are quantised, or blocks share one.
        """
        ranks = Ranks.here()
        join(ranks, device=self.device.type)
        units = shard_units(module)
        refuse_quantised(module, spread_by="the engine 'fsdp'", instead="train.engine.name=ddp")
        _refuse_shared(module, units)
        prepare_units(module, recompute=self._config.activation_checkpointing, compiled=self._config.compile)
        offload = CPUOffloadPolicy(pin_memory=self.device.type == "cuda")
        options: dict[str, Any] = {
            "mesh": self._mesh(ranks),
            "mp_policy": _PRECISION[self._config.precision],
            "offload_policy": offload if self._config.cpu_offload else OffloadPolicy(),
        }
        for unit in units:
            fully_shard(unit, reshard_after_forward=self._config.reshard_after_forward, **options)
        # What is left is needed first in the forward pass and last: to let go of it between gains nothing.
        fully_shard(module, reshard_after_forward=False, **options)
        self._spread = [part for part in module.modules() if isinstance(part, FSDPModule)]
        return module

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Spread each micro-batch's gradients at once: kept whole, they would take what sharding saves."""
        return nullcontext()

    def forget(self) -> None:
        """Leave each rank its part again: what lies outside the blocks stays gathered after a pass."""
        for part in self._spread:
            part.reshard()

    def _mesh(self, ranks: Ranks) -> DeviceMesh:
        if self._config.sharding == "full":
            return init_device_mesh(self.device.type, (ranks.world_size,))
        size = self._config.shard_size or ranks.local_world_size
        if ranks.world_size % size:
            raise UserError(
                f"train.engine.shard_size: {ranks.world_size} processes do not divide into groups of {size}; "
                f"choose a divisor of {ranks.world_size}."
            )
        shape = (ranks.world_size // size, size)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("replicate", "shard"))


def _refuse_shared(module: nn.Module, units: Sequence[nn.Module]) -> None:
    """Refuse what cannot be spread: weights of several blocks at once."""
    blocks = {name: part for name, part in module.named_modules() if any(part is unit for unit in units)}
    homes: dict[nn.Parameter, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        home = next((block for block in blocks if name.startswith(f"{block}.")), "")
        if homes.setdefault(parameter, home) != home:
            other = homes[parameter] or "the module itself"
            raise UserError(
                f"'{name}' is a weight of '{other}' as well, and the engine 'fsdp' gives each its own: "
                "take train.engine.name=ddp."
            )
