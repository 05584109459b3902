"""Kind ``action_head``: how a policy's actions are learned and decoded; loss and decoding are the head's."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["ActionHead", "ActionHeadConfig", "AnyActionHead", "Decoded", "LossReport", "Targets"]


class LossReport(NamedTuple):
    """The loss of one micro-batch and what is worth logging about it."""

    total: Tensor
    """Sum of the loss over the items counted, differentiable. A sum, so that accumulation over unequal
    micro-batches equals one large batch."""
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody wants here
    """How many items (tokens, numbers) the sum runs over."""
    metrics: Mapping[str, tuple[Tensor, Tensor]]
    """Name -> (sum, count), detached; means are taken over the whole optimizer step."""
    details: Mapping[str, tuple[Tensor, Tensor]] = {}
    """Some of the metrics again, their sums and counts by row and number of the chunk [B, H x A]: told for
    each action dimension, and for each data set where there are several."""
    chosen: Tensor | None = None
    """[B, H x A] ids that acting would choose, each after the recorded ones before it; None where the head
    has no tokens. Rows without actions hold anything."""
    lead: Tensor | None = None
    """[B, H x A] by how much the logit of each chosen id leads that of the next one: near 0, rounding decides
    which of the two is chosen."""


class Decoded(NamedTuple):
    """What a head answers for a batch of observations."""

    actions: NDArray[np.float64]
    """[B, H, A], normalised."""
    tokens: NDArray[np.int64] | None = None
    """[B, H, A] ids behind the actions, where the head has tokens."""


class Targets(Protocol):
    """Writes what a head learns. Pure NumPy, can be pickled: it runs in loader workers, without torch."""

    def prompt(self, prompt_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids after which the answer begins: the prompt and what the head puts behind it."""
        ...

    def __call__(
        self, prompt_ids: NDArray[np.int64], actions: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return input ids [L] and labels [L]: the prompt, then what stands for ``actions`` [H, A].

        Labels are -100 where nothing is learned.
        """
        ...


class ActionHead(Protocol):
    """Between the language model and the actions. Everything it needs to rebuild it is in its settings."""

    targets: Targets

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Run the model on a batch and return its loss."""
        ...

    def decode(self, model: nn.Module, batch: Mapping[str, Tensor], shape: tuple[int, int]) -> Decoded:
        """Return normalised actions [B, H, A] for left-padded prompts; ``shape`` is (H, A)."""
        ...


class ActionHeadConfig(ComponentConfig):
    """Settings of one action head."""

    kind: ClassVar[str] = "action_head"

    @abstractmethod
    def build(self, *, vocabulary_size: int, end_id: int, separator_id: int | None) -> ActionHead:
        """Make the head.

        Args:
            vocabulary_size: ids of the text tokenizer, added special tokens not counted.
            end_id: the end-of-sequence id.
            separator_id: the id that stands between prompt and actions (Llama's empty token), if any.
        """


AnyActionHead: TypeAlias = Annotated[
    SerializeAsAny[ActionHeadConfig], BeforeValidator(by_name("action_head"))
]
