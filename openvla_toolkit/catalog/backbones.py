"""The vision backbones and language models of Prismatic models by id, as settings of ordinary components.

Two classes ran these models: Prismatic's own (``prismatic``: training runs) and the Hugging Face port
(``hugging-face``: openvla-7b as published). They differ in a few facts, which is what ``origin`` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from openvla_toolkit.catalog.tables import entry, table

__all__ = [
    "LanguageEntry",
    "Origin",
    "Resize",
    "TokenizerRules",
    "VisionEntry",
    "language_entry",
    "language_ids",
    "language_settings",
    "vision_entry",
    "vision_ids",
    "vision_settings",
]

Origin: TypeAlias = Literal["prismatic", "hugging-face"]
Resize: TypeAlias = Literal["resize-naive", "resize-crop", "letterbox"]
Colour: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionEntry:
    """One vision backbone; tuples have one element per tower."""

    id: str
    image_size: int
    """Edge of the square input, pixels."""
    towers: tuple[str, ...]
    """timm's names."""
    native_prefixes: tuple[str, ...]
    """What the towers are called in checkpoints of training runs (``dino_featurizer``)."""
    native_pixel_keys: tuple[str, ...]
    """What their pixels are called there (``dino``); empty for a single tower, whose pixels are one array."""
    embed_dim: int
    """Width of the features, summed over towers."""
    num_patches: int
    means: tuple[Colour, ...]
    stds: tuple[Colour, ...]
    short_edges: tuple[int, ...]
    """What training runs' ``resize-crop`` and ``letterbox`` make of the shorter edge; the port takes
    ``image_size``."""
    letterbox_fill: tuple[tuple[int, int, int], ...]
    """Colours of the padding; training runs pad every tower's picture, the port pads once, with the last."""
    in_original_port: bool
    """Whether the original's Hugging Face classes know this id."""

    @property
    def fused(self) -> bool:
        """Whether features of two towers are laid side by side."""
        return len(self.towers) > 1

    def activations(self, origin: Origin = "prismatic") -> tuple[str | None, ...]:
        """Return timm's ``act_layer`` per tower; None is the tower's own."""
        return tuple(table("vision_backbones")["backbones"][self.id]["activation"][origin])


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerRules:
    """What the originals make of a language model's tokenizer."""

    adds_bos: bool
    """Whether it begins a text with ``bos`` by itself; else the prompt style writes it."""
    bos: str
    eos: str
    pad: str
    """Added behind all other tokens."""
    bos_id: int
    eos_id: int
    pad_id: int
    vocabulary_size: int
    """Ids of text, added tokens not counted; the last 256 of them stand for actions."""
    embedding_rows: int
    """Rows of the embeddings: all ids, rounded up to a multiple of 64."""
    separator_id: int | None
    """Llama's empty token, which stands before the first action token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageEntry:
    """One language model."""

    id: str
    family: str
    hub_id: str
    model_type: str
    """The architecture as transformers calls it."""
    decoder_layer: str
    """Class of its blocks."""
    prompt: str
    """Name of the ``prompt`` component that it was trained with."""
    max_tokens: int
    hub: dict[str, Any]
    """Settings of the architecture as published, which training runs use (Llama-2: rms_norm_eps 1e-5)."""
    port: dict[str, Any]
    """Settings that the original's converter wrote into ``text_config`` (rms_norm_eps 1e-6)."""
    in_original_port: bool
    """Whether the original could convert models with it."""
    tokenizer: TokenizerRules

    def settings(self, origin: Origin = "prismatic") -> dict[str, Any]:
        """Return the settings of the architecture, vocabulary and special tokens left out."""
        return dict(self.hub if origin == "prismatic" else self.port)


def vision_ids() -> tuple[str, ...]:
    """Return the ids of all vision backbones."""
    return tuple(table("vision_backbones")["backbones"])


def language_ids() -> tuple[str, ...]:
    """Return the ids of all language models."""
    return tuple(table("language_models")["models"])


def vision_entry(name: str) -> VisionEntry:
    """Return what is known of a vision backbone.

    Raises:
        UserError: there is no such id.
    """
    content = table("vision_backbones")
    facts = entry(content["backbones"], name, what="vision backbone")
    towers = [content["towers"][tower] for tower in facts["towers"]]
    return VisionEntry(
        id=name,
        image_size=facts["image_size"],
        towers=tuple(facts["towers"]),
        native_prefixes=tuple(facts["native_prefixes"]),
        native_pixel_keys=tuple(facts.get("native_pixel_keys", ())),
        embed_dim=facts["embed_dim"],
        num_patches=facts["num_patches"],
        means=tuple(tuple(tower["mean"]) for tower in towers),
        stds=tuple(tuple(tower["std"]) for tower in towers),
        short_edges=tuple(facts["short_edges"]),
        letterbox_fill=tuple(tuple(colour) for colour in facts["letterbox_fill"]),
        in_original_port=facts["in_original_port"],
    )


def language_entry(name: str) -> LanguageEntry:
    """Return what is known of a language model.

    Raises:
        UserError: there is no such id.
    """
    content = table("language_models")
    facts = entry(content["models"], name, what="language model")
    family = content["families"][facts["family"]]
    return LanguageEntry(
        id=name,
        family=facts["family"],
        hub_id=facts["hub_id"],
        model_type=family["model_type"],
        decoder_layer=family["decoder_layer"],
        prompt=facts["prompt"],
        max_tokens=facts["max_tokens"],
        hub={**family["hub"], **facts.get("hub", {})},
        port={**family["port"], **facts.get("port", {})},
        in_original_port=facts.get("in_original_port", True),
        tokenizer=TokenizerRules(**family["tokenizer"]),
    )


def vision_settings(
    name: str,
    *,
    resize: Resize,
    origin: Origin = "prismatic",
    activations: Literal["origin", "towers"] = "origin",
) -> dict[str, Any]:
    """Return the settings of the component ``timm`` that make this backbone.

    Args:
        resize: how pictures become square.
        origin: whose pictures and activations: the two classes differ for ``clip-vit-b`` and fused backbones.
        activations: ``towers`` gives each tower the activation its pretrained weights were made with,
            whatever a class once did with it (it matters for ``dinoclip-vit-l-336px`` alone).

    Raises:
        UserError: there is no such id.
    """
    facts = vision_entry(name)
    functions = list(facts.activations("hugging-face" if activations == "towers" else origin))
    settings: dict[str, Any] = {
        "name": "timm",
        "models": facts.towers,
        "image_size": facts.image_size,
        "resize": resize,
        "mean": facts.means,
        "std": facts.stds,
        "options": {"act_layer": functions} if any(functions) else {},
    }
    if origin == "prismatic" and resize != "resize-naive" and {*facts.short_edges} != {facts.image_size}:
        settings["edges"] = facts.short_edges
    if origin == "hugging-face" and resize == "letterbox" and facts.fused:
        settings["fills"] = (facts.letterbox_fill[-1],) * len(facts.towers)
    return settings


def language_settings(name: str, *, origin: Origin = "prismatic") -> dict[str, Any]:
    """Return the settings of the component ``causal-lm`` that make this architecture, with random weights.

    ``language_entry(name)`` has the rest: hub id, prompt style, tokenizer.

    Raises:
        UserError: there is no such id.
    """
    facts = language_entry(name)
    return {
        "name": "causal-lm",
        "model_type": facts.model_type,
        "settings": facts.settings(origin),
        "tokenizer": facts.hub_id,
        "pad_token": facts.tokenizer.pad,
    }
