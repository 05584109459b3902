"""Kind ``engine``: where a model lives and how one optimizer step is taken.

The engine owns the whole step, because plain, DDP, FSDP and ZeRO training each treat accumulation, scaling,
reduction and clipping differently.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from openvla_toolkit.core.sections import Optimizer
    from openvla_toolkit.interfaces.action_head import LossReport

__all__ = ["AnyEngine", "Engine", "EngineConfig", "LossFunction", "StepReport"]

LossFunction: TypeAlias = "Callable[[nn.Module, Mapping[str, Tensor]], LossReport]"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one optimizer step did, over all its micro-batches and ranks."""

    loss: float
    grad_norm: float
    """Global L2 norm before clipping."""
    metrics: Mapping[str, float]


class Engine(Protocol):
    """Five methods; everything parallel hides behind them."""

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Place and wrap the model, then build the optimizer over the parameters that require gradients."""
        ...

    def step(
        self,
        micro_batches: Iterable[Mapping[str, NDArray[np.generic]]],
        loss: LossFunction,
        *,
        lr: float,
        clip_norm: float | None,
    ) -> StepReport:
        """Take one optimizer step over all micro-batches: forward, backward, reduce, clip, update.

        Raises:
            TrainingError: loss or gradient norm is not finite; nothing was updated.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write optimizer state and random state of this run's ranks."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote, so that the next step is the one that would have come."""
        ...

    def full_weights(self) -> Mapping[str, Tensor]:
        """Return all parameters and buffers, whole, on the CPU, on rank 0 (empty elsewhere)."""
        ...


class EngineConfig(ComponentConfig):
    """Settings of one engine."""

    kind: ClassVar[str] = "engine"

    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of forward and backward; parameters and optimizer state stay fp32."""

    @abstractmethod
    def build(self) -> Engine:
        """Make the engine; it reads its rank from the environment (torchrun's variables)."""


AnyEngine: TypeAlias = Annotated[SerializeAsAny[EngineConfig], BeforeValidator(by_name("engine"))]
