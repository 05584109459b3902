"""Kind ``policy``: what looks, listens and acts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny
from typing_extensions import Self

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from openvla_toolkit.core.contract import Contract, Interface
    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.core.types import ActionChunk, ConversationSample, Observation, Sample
    from openvla_toolkit.interfaces.action_head import LossReport

__all__ = ["AnyPolicy", "Policy", "PolicyConfig", "Processor"]


class Processor(Protocol):
    """Turns samples into arrays, in loader workers: NumPy and Pillow, no torch; can be pickled."""

    def encode(self, sample: Sample | ConversationSample) -> dict[str, NDArray[np.generic]]:
        """Return the model's inputs and labels for one training sample."""
        ...

    def encode_observation(self, observation: Observation) -> dict[str, NDArray[np.generic]]:
        """Return the model's inputs for acting: the prompt without an answer."""
        ...

    def collate(
        self, items: Sequence[Mapping[str, NDArray[np.generic]]], *, side: str = "right"
    ) -> dict[str, NDArray[np.generic]]:
        """Stack encoded items, padding on the ``right`` for training and on the ``left`` for decoding."""
        ...


class Policy(Protocol):
    """A policy in memory. Safe to call from one thread at a time."""

    contract: Contract
    statistics: Mapping[str, Statistics]
    """Data set name (``unnorm_key``) -> statistics of its actions and states."""
    processor: Processor
    module: nn.Module

    def loss(self, module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Return the loss of a collated batch; ``module`` is the policy's own or an engine's wrapping."""
        ...

    def predict_chunks(
        self, observations: Sequence[Observation], *, unnorm_key: str | None = None
    ) -> list[ActionChunk]:
        """Return one action chunk per observation, in the embodiment's units."""
        ...

    def weight_names(self) -> Collection[str] | None:
        """Return the names of the tensors that ``save`` writes (an adapter's alone, say); None for all."""
        ...

    def save(self, folder: Path, *, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the policy into an empty folder so that ``load_policy(folder)`` gives it back.

        ``weights`` are written instead of the module's own (an engine's ``full_weights`` of
        ``weight_names``). The caller makes the folder atomic (``core.storage.atomic_folder``).
        """
        ...


class PolicyConfig(ComponentConfig):
    """Settings of one policy."""

    kind: ClassVar[str] = "policy"
    execution: ClassVar[tuple[str, ...]] = ("dtype", "frame")
    """Settings that say how a policy is loaded and run, and what its contract keeps; a checkpoint does not
    keep them beside."""

    weights: str | None = None
    """A checkpoint to start from: a folder, a shipped name (``tabletop-tiny``) or a hub id; None for none."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the parameters in memory; what is trained is float32."""
    frame: FrameRecipe | None = None
    """What becomes of a camera's picture first (``images.frame`` of the contract); None leaves it to the
    checkpoint, and to ``train.frames`` where the policy is trained."""

    def check_trainable(self) -> None:
        """Refuse settings that are for acting only, before anything is read or built.

        Raises:
            RecipeError: the parameters would not be kept in float32.
        """
        if self.dtype != "float32":
            raise RecipeError(
                f"training keeps its parameters in float32, and '{self.dtype}' was asked for. For fast "
                "arithmetic give train.engine.precision: bf16; other types are for policies that are only "
                "measured, and for weights under an adapter.",
                path="policy.dtype",
            )

    def reloaded(self, checkpoint: str, *, training: bool) -> Self:
        """Return settings that load a checkpoint of this policy's training, to go on from there or to act."""
        return self.model_copy(update={"weights": checkpoint})

    def outline(self) -> nn.Module | None:
        """Return the module as training would begin with it, on the meta device; fetch and read no numbers.

        None where its size is not known before the weights are there. For ``openvla plan`` the module offers
        ``rehearse(samples=, text=, learned=, pictures=)``: its loss over blank samples of so many tokens, of
        which some are learned, and pictures.

        Raises:
            CheckpointError: ``weights`` do not fit these settings.
        """
        return None

    @abstractmethod
    def build(
        self, *, robot: Interface | None = None, statistics: Mapping[str, Statistics] | None = None
    ) -> Policy:
        """Make the policy, ``frame`` in its contract where it is given.

        Args:
            robot: the robot of the training data; None when only the checkpoint's own is wanted.
            statistics: statistics of the training data, added to those of the checkpoint.

        Raises:
            CheckpointError: ``weights`` do not fit these settings.
        """


AnyPolicy: TypeAlias = Annotated[SerializeAsAny[PolicyConfig], BeforeValidator(by_name("policy"))]
