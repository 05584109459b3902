"""Built-in vision backbones: any timm Vision Transformer, one or two side by side; Prismatic's by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from openvla_toolkit.catalog.backbones import vision_entry, vision_settings
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.interfaces.vision_backbone import VisionBackboneConfig

if TYPE_CHECKING:
    from openvla_toolkit.vision_backbones.timm_vit import TimmBackbone

__all__ = ["PrismaticVisionConfig", "TimmConfig"]

Colour = tuple[float, float, float]


class TimmConfig(VisionBackboneConfig):
    """One timm Vision Transformer, or two whose features are concatenated (Prismatic's fused backbones)."""

    name: Literal["timm"] = "timm"
    models: tuple[str, ...] = Field(min_length=1, max_length=2)
    """timm model names; the features of two are laid side by side, in this order."""
    image_size: int = Field(gt=0)
    """Edge of the square input, pixels."""
    resize: Literal["resize-naive", "resize-crop", "letterbox"] = "resize-naive"
    """How a picture becomes square: stretched, centre-cropped or padded."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of ``timm.create_model``; a list gives each model its own value."""
    mean: tuple[Colour, ...] | None = None
    """Per model, subtracted from pixels in [0, 1]; None takes timm's."""
    std: tuple[Colour, ...] | None = None
    """Per model, pixels are divided by it; None takes timm's."""
    edges: tuple[int, ...] | None = None
    """Per model, what the shorter edge becomes before the centre crop; None takes ``image_size``."""
    fills: tuple[tuple[int, int, int], ...] | None = None
    """Per model, the colour a letterbox pads with (0..255); None takes the mean."""
    pretrained: bool = False
    """Fetch timm's pretrained weights when the policy is made from scratch."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Implementation of attention; ``eager`` is the faster one for few patches in bf16 on a CPU."""
    init_std: float | None = Field(default=None, gt=0)
    """Standard deviation of fresh linear weights (patch weights: one over root fan-in); None: timm's own."""
    position_std: float | None = Field(default=None, gt=0)
    """Standard deviation of fresh position embeddings; None keeps timm's initialisation."""

    @model_validator(mode="after")
    def _one_value_per_model(self) -> TimmConfig:
        for key in ("mean", "std", "edges", "fills"):
            value = getattr(self, key)
            if value is not None and len(value) != len(self.models):
                raise ValueError(f"'{key}' has {len(value)} entries for {len(self.models)} models.")
        for key, value in self.options.items():
            if isinstance(value, list) and len(value) != len(self.models):
                raise ValueError(f"'options.{key}' has {len(value)} values for {len(self.models)} models.")
        return self

    def architecture(self) -> TimmConfig:
        """Return settings of the same module without weights to fetch or draw and the choice of attention."""
        return self.model_copy(
            update={"pretrained": False, "attention": "sdpa", "init_std": None, "position_std": None}
        )

    def build(self) -> TimmBackbone:
        """Make the module.

        Raises:
            UserError: timm has no such model, it takes no such option, or the towers do not fit each other.
        """
        from openvla_toolkit.vision_backbones.timm_vit import TimmBackbone

        return TimmBackbone(self)


class PrismaticVisionConfig(VisionBackboneConfig):
    """A vision backbone of the Prismatic models, by id (``dinosiglip-vit-so-224px``)."""

    name: Literal["prismatic"] = "prismatic"
    id: str
    """One of the thirteen; ``openvla models describe`` says which model has which."""
    resize: Literal["resize-naive", "resize-crop", "letterbox"] = "resize-naive"
    """How a picture becomes square: stretched, centre-cropped or padded."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of ``timm.create_model`` that deviate, for small trials; a list has one per tower."""
    pretrained: bool = False
    """Fetch timm's pretrained weights when the policy is made from scratch."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Implementation of attention."""

    @field_validator("id")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            return vision_entry(value).id
        except UserError as error:
            raise ValueError(str(error)) from error

    def plain(self) -> TimmConfig:
        """Return the same backbone as settings of the component ``timm``."""
        # Fresh towers start from timm's weights, so each gets the activation that its weights were made with.
        settings = vision_settings(self.id, resize=self.resize, activations="towers")
        return TimmConfig(
            **{**settings, "options": {**settings["options"], **self.options}},
            pretrained=self.pretrained,
            attention=self.attention,
        )

    def architecture(self) -> TimmConfig:
        """Return settings of the same module without weights to fetch and the choice of attention."""
        return self.plain().architecture()

    def build(self) -> TimmBackbone:
        """Make the module.

        Raises:
            UserError: timm takes no such option.
        """
        return self.plain().build()
