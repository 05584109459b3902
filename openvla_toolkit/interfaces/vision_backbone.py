"""Kind ``vision_backbone``: pixels to patch features."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from openvla_toolkit.core.contract import ImageRecipe

__all__ = ["AnyVisionBackbone", "VisionBackbone", "VisionBackboneConfig"]


class VisionBackbone(Protocol):
    """An ``nn.Module`` that turns pictures into patch features.

    Its parameters are named ``featurizer.*`` and, for a second tower, ``fused_featurizer.*``.
    """

    embed_dim: int
    """Width D of the features (the sum over fused towers)."""
    num_patches: int
    """Patches per picture."""

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [N, 3 x towers, size, size] to features [N, num_patches, embed_dim]."""
        ...

    def image_recipe(self) -> ImageRecipe:
        """Return resize strategy, size and per-tower mean and standard deviation."""
        ...

    def shard_units(self) -> list[nn.Module]:
        """Return the modules that a sharding engine may treat as one unit (the transformer blocks)."""
        ...


class VisionBackboneConfig(ComponentConfig):
    """Settings of one vision backbone."""

    kind: ClassVar[str] = "vision_backbone"

    def architecture(self) -> VisionBackboneConfig:
        """Return settings that build the same module without fetching weights: what a checkpoint keeps."""
        return self

    @abstractmethod
    def build(self) -> VisionBackbone:
        """Make the module; weights are random unless the settings name some."""


AnyVisionBackbone: TypeAlias = Annotated[
    SerializeAsAny[VisionBackboneConfig], BeforeValidator(by_name("vision_backbone"))
]
