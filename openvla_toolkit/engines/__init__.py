"""Settings of the built-in engines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from openvla_toolkit.interfaces.engine import EngineConfig, Spread

if TYPE_CHECKING:
    from openvla_toolkit.engines.torch_engine import TorchEngine

__all__ = ["DDPConfig", "FSDPConfig", "SingleConfig", "TorchEngineConfig"]


class TorchEngineConfig(EngineConfig):
    """Settings that all engines of this package have."""

    averages: ClassVar[bool] = True

    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a CUDA device where there is one, each rank its own."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; None leaves torch's choice (OMP_NUM_THREADS)."""
    activation_checkpointing: bool = False
    """Compute each transformer block again in the backward pass instead of keeping what it computed: about a
    third more time, a fraction of the memory."""
    compile: bool = False
    """Compile each transformer block (``torch.compile``); the first steps take minutes."""

    def savings(self, ranks: int) -> Sequence[Mapping[str, Any]]:
        """Return blocks that are computed twice, and arithmetic in bf16."""
        changes = {"activation_checkpointing": True, "precision": "bf16"}
        return [{key: value} for key, value in changes.items() if getattr(self, key) != value]


class SingleConfig(TorchEngineConfig):
    """One process, one device."""

    name: Literal["single"] = "single"

    def build(self) -> TorchEngine:
        """Make the engine."""
        from openvla_toolkit.engines.single import OneDevice
        from openvla_toolkit.engines.torch_engine import TorchEngine

        return TorchEngine(self, OneDevice(self))


class DDPConfig(TorchEngineConfig):
    """Every rank holds the whole policy; gradients are averaged (DistributedDataParallel)."""

    distributed: ClassVar[bool] = True

    name: Literal["ddp"] = "ddp"
    bucket_mb: float = Field(default=25.0, gt=0)
    """Size of the pieces in which gradients travel while the backward pass goes on."""
    unused_parameters: bool = False
    """Look after every backward pass for parameters that had no part in it; needed for policies that leave
    some out by turns."""

    def spread(self, ranks: int, *, local: int | None = None) -> Spread:
        """Return that all lies everywhere, and that gradients live in the pieces that travel."""
        # A step begins without gradients (zero_grad sets them to None): those of passes under no_sync, which
        # do not travel, are new tensors beside the pieces.
        return Spread(gradients_stay=True, gradients_beside=True)

    def build(self) -> TorchEngine:
        """Make the engine."""
        from openvla_toolkit.engines.ddp import Replicated
        from openvla_toolkit.engines.torch_engine import TorchEngine

        return TorchEngine(self, Replicated(self))


class FSDPConfig(TorchEngineConfig):
    """Parameters, gradients and optimizer state are spread over the ranks (FSDP2, ``fully_shard``)."""

    distributed: ClassVar[bool] = True

    name: Literal["fsdp"] = "fsdp"
    sharding: Literal["full", "hybrid"] = "full"
    """``full``: over all ranks; ``hybrid``: within groups of ``shard_size``, each with the whole policy."""
    shard_size: int | None = Field(default=None, gt=0)
    """Ranks of one group of ``hybrid``; by default those of one machine."""
    reshard_after_forward: bool = True
    """Let go of a block's parameters after its forward pass and fetch them again for the backward pass; false
    keeps them: more memory, less traffic."""
    cpu_offload: bool = False
    """Keep parameters, gradients and optimizer state in the memory of the CPU."""

    @model_validator(mode="after")
    def _size_belongs_to_hybrid(self) -> FSDPConfig:
        if self.shard_size is not None and self.sharding != "hybrid":
            raise ValueError("'shard_size' is the size of a group of 'sharding: hybrid'; 'full' has none.")
        return self

    def spread(self, ranks: int, *, local: int | None = None) -> Spread:
        """Return that each has its part of a group's, or what it computes with alone."""
        group = ranks if self.sharding == "full" else self.shard_size or local or ranks
        share = 1 / min(group, ranks)
        stays = 0.0 if self.reshard_after_forward else math.inf
        part = Spread(parameters=share, gradients=share, optimizer=share, gathers=True, stays=stays)
        if not self.cpu_offload:
            return part
        return Spread(parameters=0, gradients=0, optimizer=0, gathers=True, stays=stays, offloaded=part)

    def savings(self, ranks: int) -> Sequence[Mapping[str, Any]]:
        """Return those of all engines, less that stays gathered, groups of all ranks, and the CPU."""
        changes = [*super().savings(ranks)]
        if not self.reshard_after_forward:
            changes.append({"reshard_after_forward": True})
        if self.sharding == "hybrid" and ranks > 1:
            changes.append({"sharding": "full", "shard_size": None})
        if not self.cpu_offload:
            changes.append({"cpu_offload": True})
        return changes

    @property
    def takes_quantised(self) -> bool:
        """Never, not even where a group is one rank."""
        return False

    def build(self) -> TorchEngine:
        """Make the engine."""
        from openvla_toolkit.engines.fsdp import Sharded
        from openvla_toolkit.engines.torch_engine import TorchEngine

        return TorchEngine(self, Sharded(self))
