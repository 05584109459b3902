"""Patch features of timm Vision Transformers, as Prismatic models take them."""

from __future__ import annotations

from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.layers.layer_scale import LayerScale
from torch import Tensor, nn

from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.errors import UserError, did_you_mean
from openvla_toolkit.vision_backbones import TimmConfig

__all__ = ["ScaleFactor", "TimmBackbone"]


class TimmBackbone(nn.Module):
    """One or two towers; features of the second-to-last block, without final norm and prefix tokens.

    What lies behind that block is in the state dict, as in the published checkpoints, but is never executed,
    so it takes no gradient.
    """

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        self._config = config
        towers = [_tower(config, index) for index in range(len(config.models))]
        self.featurizer = towers[0]
        if len(towers) == 2:
            self.fused_featurizer = towers[1]
        patches = {tower.patch_embed.num_patches for tower in towers}
        if len(patches) > 1:
            raise UserError(
                f"{' and '.join(config.models)} cannot be fused: they cut a {config.image_size} px picture "
                f"into {' and '.join(str(tower.patch_embed.num_patches) for tower in towers)} patches."
            )
        self.num_patches = int(patches.pop())
        self.embed_dim = sum(int(tower.embed_dim) for tower in towers)

    def towers(self) -> list[Any]:
        """Return the one or two Vision Transformers."""
        return [self.featurizer, *([self.fused_featurizer] if len(self._config.models) == 2 else [])]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [N, 3 x towers, size, size] to features [N, num_patches, embed_dim]."""
        towers = self.towers()
        features = [
            _features(tower, pixels)
            for tower, pixels in zip(towers, pixel_values.split(3, dim=1), strict=True)
        ]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)

    def image_recipe(self) -> ImageRecipe:
        """Return resize strategy, size and each tower's mean and standard deviation."""
        own = [resolve_model_data_config(tower) for tower in self.towers()]
        config = self._config
        return ImageRecipe(
            strategy=config.resize,
            size=config.image_size,
            means=config.mean or tuple(tuple(entry["mean"]) for entry in own),
            stds=config.std or tuple(tuple(entry["std"]) for entry in own),
            edges=config.edges,
            fills=config.fills,
        )

    def never_executed(self) -> list[nn.Module]:
        """Return what lies behind the features and takes no gradient."""
        return [module for tower in self.towers() for module in _never_executed(tower)]

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks of all towers."""
        return [block for tower in self.towers() for block in tower.blocks]


class ScaleFactor(nn.Module):
    """timm's LayerScale under the parameter name that published OpenVLA checkpoints use.

    Hugging Face's loader used to rename every parameter whose name contains ``gamma``; the original therefore
    stores it as ``scale_factor``.
    """

    def __init__(self, gamma: Tensor) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(gamma.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Multiply features [..., D] by one factor per channel."""
        return x * self.scale_factor


def _tower(config: TimmConfig, index: int) -> Any:
    name = config.models[index]
    options = {
        key: value[index] if isinstance(value, list) else value for key, value in config.options.items()
    }
    try:
        tower: Any = timm.create_model(
            name, pretrained=config.pretrained, num_classes=0, img_size=config.image_size, **options
        )
    except (RuntimeError, TypeError) as error:
        hint = "" if timm.is_model(name) else did_you_mean(name, timm.list_models())
        raise UserError(
            f"timm cannot make '{name}' with {options or 'no options'}: {error}.{hint}"
        ) from error
    has_patches = hasattr(getattr(tower, "patch_embed", None), "num_patches")
    if not has_patches or len(getattr(tower, "blocks", ())) < 2:
        raise UserError(f"'{name}' is no Vision Transformer of at least two blocks on square patches.")
    if not config.pretrained:
        _initialise(tower, config)
    if config.attention == "eager":
        for block in tower.blocks:
            block.attn.fused_attn = False
    _rename_layer_scale(tower)
    for module in _never_executed(tower):
        module.requires_grad_(False)
    return tower


def _features(tower: Any, pixels: Tensor) -> Tensor:
    """Return the tokens [N, patches, width] that leave the second-to-last block."""
    return tower.forward_intermediates(  # type: ignore[no-any-return]
        pixels,
        indices=[len(tower.blocks) - 2],
        norm=False,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )[0]


def _initialise(tower: Any, config: TimmConfig) -> None:
    if config.init_std is not None:
        for module in tower.modules():
            if isinstance(module, nn.Linear):
                _draw(module, config.init_std)
        patches = tower.patch_embed.proj  # its fan-in has nothing to do with the width
        _draw(patches, patches.weight[0].numel() ** -0.5)
    if config.position_std is not None:
        nn.init.normal_(tower.pos_embed, std=config.position_std)


def _draw(layer: nn.Linear | nn.Conv2d, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _rename_layer_scale(tower: nn.Module) -> None:
    for module in list(tower.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LayerScale):
                setattr(module, name, ScaleFactor(child.gamma))


def _never_executed(tower: Any) -> list[nn.Module]:
    """Return the modules behind the second-to-last block: the last block, the norms and the pooling head."""
    heads = (getattr(tower, name, None) for name in ("norm", "fc_norm", "attn_pool", "head"))
    return [tower.blocks[-1], *(module for module in heads if isinstance(module, nn.Module))]
