"""Kind ``engine``: where a model lives and how one optimizer step is taken.

The engine owns the whole step, because plain, DDP, FSDP and ZeRO training each treat accumulation, scaling,
reduction and clipping differently.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

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

__all__ = ["AnyEngine", "Engine", "EngineConfig", "LossFunction", "Spread", "StepReport"]

LossFunction: TypeAlias = "Callable[[nn.Module, Mapping[str, Tensor]], LossReport]"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one optimizer step did, over all its micro-batches and ranks."""

    loss: float
    grad_norm: float
    """Global L2 norm before clipping."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Which share of what training keeps lies on each device: 1 is all of it, 0 none, for it is elsewhere."""

    parameters: float = 1.0
    gradients: float = 1.0
    optimizer: float = 1.0
    """Of AdamW's two means and of a running mean of the weights; more than a share where copies are kept."""
    gathers: bool = False
    """Whether blocks that lie elsewhere are fetched, whole and in the type of the arithmetic, to compute."""
    stays: float = 0.0
    """How many parameters of fetched blocks, at most, are kept from the forward to the backward pass;
    ``math.inf`` for all."""
    gradients_stay: bool = False
    """Whether the room of all gradients is held from the beginning."""
    gradients_beside: bool = False
    """Whether those of several passes add up beside that room until the last pass."""
    buffers: float = 0.0
    """Bytes that the engine holds while gradients travel, whatever the policy."""
    offloaded: Spread | None = None
    """Which share lies in the memory of the CPU instead, for each device."""


class Engine(Protocol):
    """Five methods; everything parallel hides behind them.

    A module may offer ``shard_units()``: its blocks, which an engine may shard, compile or run twice, each as
    a whole (``nn.Module`` list; the transformer blocks of a policy).
    """

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Place and wrap the model, then build the optimizer over the parameters that require gradients.

        Where ``optimizer.ema`` is given, a running mean of the trained parameters, in fp32, begins with their
        values. All ranks have the same weights, or rank 0's are taken.
        """
        ...

    def step(
        self,
        micro_batches: Iterable[Mapping[str, NDArray[np.generic]]],
        loss: LossFunction,
        *,
        lr: float,
        clip_norm: float | None,
    ) -> StepReport:
        """Take one optimizer step over all ranks' micro-batches: forward, backward, reduce, clip, update.

        The gradient is that of the mean over all items, however they fall to micro-batches and ranks. That of
        a trained parameter which the step does not reach is zero.

        Raises:
            NotFinite: loss or gradient norm, on all ranks alike; nothing was updated.
            RankLost: another rank is gone.
        """
        ...

    def save(self) -> Callable[[Path], None]:
        """Copy optimizer state and random state of this rank; return what writes the copy into a folder.

        The caller may write on another thread while training goes on; every rank writes, into one folder.
        Tensors go by the parameters' names and hold nothing of how they were spread, so that another engine,
        or another number of ranks, can load them.
        """
        ...

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote, so that the next step is the one that would have come.

        Raises:
            CheckpointError: the state is damaged, or of other parameters; names the first.
        """
        ...

    def full_weights(self, names: Collection[str] | None = None) -> Mapping[str, Tensor]:
        """Return copies of parameters and buffers, whole, on the CPU, on rank 0 (empty elsewhere).

        With ``optimizer.ema.use`` the trained ones are their running means. To be called on every rank.

        Args:
            names: these only (``Policy.weight_names``); None for all.
        """
        ...


class EngineConfig(ComponentConfig):
    """Settings of one engine."""

    kind: ClassVar[str] = "engine"

    distributed: ClassVar[bool] = False
    """Whether several processes can train one policy."""
    averages: ClassVar[bool] = False
    """Whether a running mean of the weights can be kept (``train.optimizer.ema``). Such an engine also offers
    ``averaged()``, a context in which the module has the weights that its checkpoints would have."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of forward and backward; parameters and optimizer state stay fp32."""

    def spread(self, ranks: int, *, local: int | None = None) -> Spread:
        """Return what of a training lies on each of so many devices, one for each rank (``openvla plan``).

        Args:
            local: how many of them are in one machine; all where it is not given.
        """
        return Spread()

    def savings(self, ranks: int) -> Sequence[Mapping[str, Any]]:
        """Return settings that take less of each device and leave the training what it is.

        Each is a change that is not made yet, key -> value (``zero.overlap_comm`` is a key within ``zero``).
        They are made one after the other until a training fits: the cheapest first, what goes to the memory
        of the CPU last.
        """
        return ()

    @property
    def takes_quantised(self) -> bool:
        """Whether adapters can be trained beside weights of few bits (``policy.quantization``); what spreads
        parameters spreads plain numbers."""
        return self.spread(2).parameters == 1

    @abstractmethod
    def build(self) -> Engine:
        """Make the engine; it reads its rank from the environment (torchrun's variables)."""


AnyEngine: TypeAlias = Annotated[SerializeAsAny[EngineConfig], BeforeValidator(by_name("engine"))]
