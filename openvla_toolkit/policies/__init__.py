"""Built-in policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from openvla_toolkit.core.contract import Interface, Normalization, by_dialect
from openvla_toolkit.interfaces.action_head import AnyActionHead
from openvla_toolkit.interfaces.language_model import AnyLanguageModel
from openvla_toolkit.interfaces.policy import PolicyConfig
from openvla_toolkit.interfaces.prompt import AnyPrompt
from openvla_toolkit.interfaces.vision_backbone import AnyVisionBackbone

if TYPE_CHECKING:
    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

__all__ = ["OpenVLAConfig"]


class OpenVLAConfig(PolicyConfig):
    """OpenVLA: a vision backbone, a projector and a language model that speaks actions.

    From scratch, ``vision_backbone`` and ``language_model`` are needed and the rest has defaults. With
    ``weights`` everything comes from the checkpoint, and what is given besides must agree with it.
    """

    execution: ClassVar[tuple[str, ...]] = (
        *PolicyConfig.execution,
        *("attention", "quantization", "tokenizer", "base", "merge"),
    )

    name: Literal["openvla"] = "openvla"
    vision_backbone: AnyVisionBackbone | None = None
    """Pixels to patch features."""
    language_model: AnyLanguageModel | None = None
    """Reads patches and words, and speaks."""
    projector: Literal["linear", "gelu-mlp", "fused-gelu-mlp"] | None = None
    """From patch features to the language model's width: one, two or three layers; two by default."""
    projector_std: float | None = Field(default=None, gt=0)
    """Standard deviation of fresh projector weights; None keeps torch's initialisation."""
    prompt: AnyPrompt | None = None
    """How the instruction is put; ``pure`` by default."""
    head: AnyActionHead | None = None
    """How actions are learned and decoded; ``tokens`` by default."""
    cameras: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Cameras the policy looks at, in the order their patches are laid; ``primary`` alone by default."""
    chunk: int | None = Field(default=None, gt=0)
    """Actions per answer; 1 by default."""
    normalization: Annotated[Normalization, BeforeValidator(by_dialect)] | None = None
    """How actions are brought to [-1, 1]: fields, or the name of what another code base does
    (``lerobot-min-max``, ``openpi-quantile``, ...); the 1 % and 99 % quantiles by default."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Ids of a conversation beyond this are cut off; 2048 by default."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """Implementation of attention in both backbones (``flash_attention_2``: in the language model only);
    None takes each one's own."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Keep the language model's linear layers in 8 or 4 bits (bitsandbytes); for acting, not for training."""
    tokenizer: str | None = None
    """Folder or hub id of a tokenizer, for training runs of the original, which do not bring theirs."""
    base: str | None = None
    """What an adapter in ``weights`` is put on; None takes the one it was trained on."""
    merge: bool = True
    """Add an adapter in ``weights`` to the parameters; else it is kept apart (needs peft)."""
    freeze: tuple[Literal["vision_backbone", "projector", "language_model", "language_model_body"], ...] = ()
    """Parts that training leaves as they are; ``language_model_body`` is all of the language model but its
    embeddings, last block and output layer."""

    @model_validator(mode="after")
    def _has_a_source(self) -> OpenVLAConfig:
        if self.weights is None and (self.vision_backbone is None or self.language_model is None):
            raise ValueError("give 'weights' (a checkpoint), or both 'vision_backbone' and 'language_model'.")
        return self

    def build(
        self, *, robot: Interface | None = None, statistics: Mapping[str, Statistics] | None = None
    ) -> OpenVLAPolicy:
        """Make the policy (see ``interfaces.policy.PolicyConfig``).

        Raises:
            CheckpointError: ``weights`` do not fit these settings; names both sides.
            ContractMismatch: the robot has no such camera.
        """
        from openvla_toolkit.policies.prismatic.assembly import assemble, restore

        if self.weights is None:
            return assemble(self, robot=robot, statistics=statistics or {})
        return restore(self, robot=robot, statistics=statistics or {})
