"""Built-in policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from openvla_toolkit.core.component import Section
from openvla_toolkit.core.contract import Interface, Normalization, by_dialect
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.interfaces.action_head import AnyActionHead
from openvla_toolkit.interfaces.language_model import AnyLanguageModel
from openvla_toolkit.interfaces.policy import PolicyConfig
from openvla_toolkit.interfaces.prompt import AnyPrompt
from openvla_toolkit.interfaces.vision_backbone import AnyVisionBackbone
from openvla_toolkit.policies.prismatic.freezing import Part, stage_parts

if TYPE_CHECKING:
    from torch import nn

    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

__all__ = ["Lora", "OpenVLAConfig"]


def _parts(value: object) -> object:
    """Turn the name of a stage into what it freezes; leave everything else to pydantic."""
    try:
        return stage_parts(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from error


class Lora(Section):
    """Low-rank adapters beside frozen weights, by peft; the defaults are the original's."""

    rank: int = Field(default=32, gt=0)
    """Width of the adapters."""
    alpha: float | None = Field(default=None, gt=0)
    """What they add is scaled by alpha / rank; None is the smaller of rank and 16."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that are dropped in training."""
    targets: Literal["all-linear"] | tuple[str, ...] = Field(default="all-linear", min_length=1)
    """Layers that get an adapter: all linear ones and the patch embeddings, the output layer and the
    projector included; or patterns of names (``language_model.*.q_proj``)."""
    init: Literal["gaussian", "kaiming"] = "gaussian"
    """Fresh numbers of the first half; the second is zero, so that training begins at the base."""
    dora: bool = False
    """Learn the length of every row apart from its direction (DoRA)."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (rsLoRA)."""

    @property
    def alpha_or_default(self) -> float:
        """Return alpha, the original's rule applied where none is given."""
        return min(self.rank, 16) if self.alpha is None else self.alpha


class OpenVLAConfig(PolicyConfig):
    """OpenVLA: a vision backbone, a projector and a language model that speaks actions.

    From scratch, ``vision_backbone`` and ``language_model`` are needed and the rest has defaults. With
    ``weights`` everything comes from the checkpoint, and what is given besides must agree with it.
    """

    execution: ClassVar[tuple[str, ...]] = (
        *PolicyConfig.execution,
        *("attention", "quantization", "tokenizer", "base", "merge", "lora"),
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
    """Keep the language model's linear layers in 8 or 4 bits (bitsandbytes): for acting, and in 4 bits under
    an adapter that is trained (QLoRA)."""
    tokenizer: str | None = None
    """Folder or hub id of a tokenizer, for training runs of the original, which do not bring theirs."""
    base: str | None = None
    """What an adapter in ``weights`` is put on; None takes the one it was trained on."""
    merge: bool = True
    """Add an adapter in ``weights`` to the parameters; else it is kept apart (needs peft)."""
    freeze: Annotated[
        tuple[Part, ...], BeforeValidator(_parts, json_schema_input_type=tuple[Part, ...] | str)
    ] = ()
    """Parts that training leaves as they are, or the name of a training stage of the original that does
    (``vla-train``); ``language_model_body`` is all of the language model but its embeddings, last block and
    output layer. They get no adapter either."""
    lora: Lora | None = None
    """Train adapters and leave ``weights`` as they are; ``{}`` for the original's settings."""

    @model_validator(mode="after")
    def _has_a_source(self) -> OpenVLAConfig:
        if self.weights is None and (self.vision_backbone is None or self.language_model is None):
            raise ValueError("give 'weights' (a checkpoint), or both 'vision_backbone' and 'language_model'.")
        if self.weights is None and self.lora is not None:
            raise ValueError("'lora' trains an adapter of trained weights: give 'weights' (a checkpoint).")
        if self.lora is not None and self.lora.dora and self.quantization is not None:
            raise ValueError("'dora' goes by the lengths of full weights: leave 'quantization' out.")
        return self

    def check_trainable(self) -> None:
        """Refuse what cannot be trained: weights in few bits or types, but under an adapter (in 4 bits).

        Raises:
            RecipeError: such weights were asked for.
        """
        if self.quantization == "8bit" or (self.quantization and self.lora is None):
            raise RecipeError(
                f"weights in {self.quantization} cannot be trained; leave it out, or train an adapter of "
                "weights in 4 bits: 'quantization: 4bit' and 'lora: {}'.",
                path="policy.quantization",
            )
        if self.lora is None:
            super().check_trainable()

    def reloaded(self, checkpoint: str, *, training: bool) -> OpenVLAConfig:
        """Return settings that load a checkpoint of this policy's training, to go on from there or to act.

        An adapter is kept apart to be trained on, and merged to act; not so with weights in 4 bits, which
        stay those that it was trained with.
        """
        update: dict[str, Any] = {"weights": checkpoint, "base": None}
        if self.lora is not None:
            update |= {"merge": not training and self.quantization is None}
            update |= {"lora": self.lora if training else None}
        return self.model_copy(update=update)

    def outline(self) -> nn.Module | None:
        """Return the network without its numbers (see ``interfaces.policy.PolicyConfig``)."""
        from openvla_toolkit.policies.prismatic.assembly import outline

        return outline(self)

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
