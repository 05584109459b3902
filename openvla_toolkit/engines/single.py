"""One process, one device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from torch import nn

from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.units import prepare_units

if TYPE_CHECKING:
    from openvla_toolkit.engines import SingleConfig

__all__ = ["OneDevice"]


class OneDevice:
    """The whole module on one device (see ``engines.torch_engine.Placement``)."""

    def __init__(self, config: SingleConfig) -> None:
        if (processes := Ranks.here().world_size) > 1:
            raise UserError(
                f"the engine 'single' is one process, and {processes} were started: take train.engine.name="
                "ddp or fsdp."
            )
        self._config = config
        self.device = usable_device(config.device, setting="train.engine.device")

    def place(self, module: nn.Module) -> nn.Module:
        """Move the module to the device."""
        prepare_units(module, recompute=self._config.activation_checkpointing, compiled=self._config.compile)
        return module.to(self.device)

    def micro_batch(self, *, last: bool) -> AbstractContextManager[object]:
        """Do nothing: gradients add up where they are."""
        return nullcontext()

    def forget(self) -> None:
        """Do nothing: every pass reads the weights themselves."""
