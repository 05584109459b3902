"""The whole module in every rank, gradients averaged while the backward pass goes on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.processes import join
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.units import prepare_units

if TYPE_CHECKING:
    from openvla_toolkit.engines import DDPConfig

__all__ = ["Replicated"]

_renamed = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # torch 2.13 did
_NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _renamed else "broadcast_buffers": False}
"""Nothing here changes buffers while training: to send them round before every pass is of no use."""


class Replicated:
    """DistributedDataParallel (see ``engines.torch_engine.Placement``)."""

    def __init__(self, config: DDPConfig) -> None:
        self._config = config
        self.device = usable_device(config.device, setting="train.engine.device")
        self._replica: DistributedDataParallel

    def place(self, module: nn.Module) -> nn.Module:
        """Move the module to this rank's device and tie it to the others; rank 0's weights go to all."""
        join(Ranks.here(), device=self.device.type)
        prepare_units(module, recompute=self._config.activation_checkpointing, compiled=self._config.compile)
        module.to(self.device)
        self._replica = DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            **_NO_BUFFERS,
            bucket_cap_mb=self._config.bucket_mb,
            gradient_as_bucket_view=True,
            find_unused_parameters=self._config.unused_parameters,
        )
        return self._replica

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Let gradients add up where they are, and travel with the last micro-batch alone."""
        return nullcontext() if last else self._replica.no_sync()

    def forget(self) -> None:
        """Do nothing: every pass reads the weights themselves."""
