"""OpenVLA and Prismatic models as classes of ``transformers``, with the parameter names of published ones.

Shape legend: B rows, M rows with pictures, C views, S pixels, L text positions, P patches of all views, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.utils.generic import ModelOutput

from openvla_toolkit.checkpoints.formats.key_names import computed
from openvla_toolkit.core.errors import CheckpointError, ContractMismatch, UserError
from openvla_toolkit.core.registry import load
from openvla_toolkit.policies.prismatic.freezing import freeze, stage_parts
from openvla_toolkit.policies.prismatic.hugging_face.acting import Acting
from openvla_toolkit.policies.prismatic.hugging_face.configuration import OpenVLAConfig, PrismaticConfig
from openvla_toolkit.policies.prismatic.hugging_face.layout import Layout, picture_rows
from openvla_toolkit.policies.prismatic.model import PictureReader, PrismaticModel
from openvla_toolkit.policies.prismatic.projector import Projector

__all__ = [
    "OpenVLAForActionPrediction",
    "PrismaticCausalLMOutputWithPast",
    "PrismaticForConditionalGeneration",
]


@dataclass
class PrismaticCausalLMOutputWithPast(ModelOutput):
    """What ``forward`` returns; sequence positions count patches."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    """[B, P + L, V], or the last ones asked for."""
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    projector_features: Tensor | None = None
    """[M, P, D], if asked for."""


class PrismaticForConditionalGeneration(PreTrainedModel, PictureReader, GenerationMixin):
    """A Prismatic vision-language model: patches stand right after the first token of the text."""

    config_class = PrismaticConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]
    _no_split_modules = ["Block", "LlamaDecoderLayer", "MistralDecoderLayer", "PhiDecoderLayer"]

    def __init__(self, config: PrismaticConfig, *, parts: PrismaticModel | None = None) -> None:
        """Build the model.

        Args:
            parts: modules to take over, weights and all, instead of building them.
        """
        super().__init__(config)
        if parts is None:
            self.vision_backbone = _vision_backbone(config)
            self.language_model = AutoModelForCausalLM.from_config(config.text_config)
            self.projector = Projector(
                config.projector_name(),  # type: ignore[arg-type]
                vision_dim=self.vision_backbone.embed_dim,
                text_dim=self.language_model.config.hidden_size,
            )
        else:
            self.vision_backbone, self.projector = parts.vision_backbone, parts.projector
            self.language_model = parts.language_model
            for module in parts.modules():
                module._is_hf_initialized = True  # type: ignore[assignment]
        self._channels = 3 * len(config.timm_model_ids)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: str | Path, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Load a checkpoint as every class of ``transformers`` does, but only a whole one.

        The library makes up what it does not find: a model without its projector would answer at random.

        Raises:
            CheckpointError: a tensor is missing, unknown or of another shape; names the first.
        """
        asked = kwargs.pop("ignore_mismatched_sizes", False)
        # The library's own complaint names neither tensor nor file: it is told to go on, and judged after.
        loaded: Any = super().from_pretrained(
            source, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
        model, info = loaded
        if not asked:
            _refuse_shapes(model, info, source)
        _refuse_gaps(info, source)
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's embeddings."""
        return self.language_model.get_input_embeddings()  # type: ignore[no-any-return]

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's output layer."""
        return self.language_model.get_output_embeddings()  # type: ignore[no-any-return]

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's output layer."""
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """Return the language model's blocks."""
        return self.language_model.get_decoder()  # type: ignore[no-any-return]

    def set_decoder(self, decoder: nn.Module) -> None:
        """Replace the language model's blocks."""
        self.language_model.set_decoder(decoder)

    def resize_token_embeddings(  # type: ignore[override]
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, **kwargs: Any
    ) -> nn.Embedding:
        """Give the vocabulary so many rows; actions keep their ids."""
        before = self.config.text_config.vocab_size
        rows = self.language_model.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, **kwargs)
        self.config.text_config.vocab_size = self.language_model.config.vocab_size = rows.num_embeddings
        self.config.pad_to_multiple_of += rows.num_embeddings - before  # what action ids are counted from
        return rows  # type: ignore[no-any-return]

    def freeze_backbones(self, stage: str) -> None:
        """Set what is trained as a training stage of the original does (``vla-train``, ``align``, ...).

        Raises:
            UserError: there is no such stage.
        """
        freeze(self, stage_parts(stage))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_projector_features: bool | None = None,
        return_dict: bool | None = None,
        multimodal_indices: Tensor | None = None,
        logits_to_keep: int = 0,
    ) -> PrismaticCausalLMOutputWithPast | tuple[Any, ...]:
        """Read texts and pictures.

        Args:
            input_ids: [B, L], padded on either side.
            attention_mask: [B, L], of the text alone; with a cache, of all text so far.
            pixel_values: [M or B, C x 3 x towers, S, S]; read while the cache is empty.
            labels: [B, L], -100 where nothing is to be learned.
            multimodal_indices: rows with pictures, their numbers [M] or a boolean per row [B]; None for all.
            logits_to_keep: logits of the last so many positions only; 0 for all.

        Raises:
            UserError: neither ids nor embeddings are given, or both; pictures come after the first token; the
                mask has another length than the text; or the cache is one of fixed size.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("give either input_ids or inputs_embeds.")
        embeddings: Any = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        rows = picture_rows(multimodal_indices, count=len(embeddings))
        if past_key_values is not None and past_key_values.is_compileable:
            raise UserError(
                "a cache of fixed size is made for the text alone and has no room for patches; leave "
                "cache_implementation out."
            )
        past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        features = self._features(pixel_values, rows, batch=len(embeddings), past=past)
        patches = _patch_count(features, attention_mask, length=embeddings.shape[1], past=past)
        if rows is not None and attention_mask is None and patches:
            attention_mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        layout = Layout.of(patches=patches, rows=rows, attention_mask=attention_mask)
        if features is not None:
            embeddings = layout.embeddings(embeddings, features)
        if labels is not None:
            labels = layout.labels(labels)
        if attention_mask is not None and patches > 0:
            attention_mask = layout.values(attention_mask.long(), patch=1, padding=0)
        training = self.training and torch.is_grad_enabled()
        output = self.language_model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=_positions(attention_mask, embeddings.shape[1]),
            past_key_values=past_key_values,
            labels=labels,
            use_cache=False if training else use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **({"logits_to_keep": logits_to_keep} if logits_to_keep else {}),
        )
        result = PrismaticCausalLMOutputWithPast(
            loss=output.loss,
            logits=output.logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            projector_features=features if output_projector_features else None,
        )
        return result.to_tuple() if return_dict is False else result

    def _features(
        self, pixel_values: Tensor | None, rows: Tensor | None, *, batch: int, past: int
    ) -> Tensor | None:
        """Return the projected patches [M, P, D] of the rows with pictures; None where there are none."""
        if pixel_values is None or (rows is not None and len(rows) == 0):
            return None
        if past:
            raise UserError("pictures are read together with the first token, but the cache is not empty.")
        wanted = batch if rows is None else len(rows)
        if rows is not None and len(pixel_values) == batch:
            pixel_values = pixel_values[rows]
        edges = (self.config.image_sizes[0],) * 2
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[0] != wanted or shape[1] % self._channels or shape[2:] != edges:
            raise ContractMismatch(
                f"pixel_values has shape {list(shape)}; expected [{wanted}, {self._channels} per view, "
                f"{edges[0]}, {edges[1]}]."
            )
        return self.image_features(pixel_values)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        multimodal_indices: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Choose what is still to be read: how long the cache is decides, not whether there is one.

        Newer releases of transformers give an empty cache to the first step. Other keywords are what
        ``generate`` knows about positions; ``forward`` finds them in the mask.
        """
        past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        inputs: dict[str, Any] = {
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "multimodal_indices": multimodal_indices,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep or 0,
        }
        if past == 0 and inputs_embeds is not None:
            return {**inputs, "inputs_embeds": inputs_embeds, "pixel_values": pixel_values}
        if past == 0:
            return {**inputs, "input_ids": input_ids, "pixel_values": pixel_values}
        if inputs_embeds is not None:  # ids are only what was generated
            return {**inputs, "input_ids": input_ids[:, -1:]}
        read = past - (0 if pixel_values is None else self._patches(pixel_values))
        return {**inputs, "input_ids": input_ids[:, min(read, input_ids.shape[1] - 1) :]}

    def _patches(self, pixel_values: Tensor) -> int:
        return int(self.vision_backbone.num_patches) * (pixel_values.shape[1] // self._channels)


class OpenVLAForActionPrediction(PrismaticForConditionalGeneration, Acting):
    """A Prismatic model that acts: ``predict_action`` turns what it says into robot actions."""

    config_class = OpenVLAConfig  # type: ignore[assignment]

    def __init__(self, config: OpenVLAConfig, *, parts: PrismaticModel | None = None) -> None:
        super().__init__(config, parts=parts)
        self.norm_stats: Mapping[str, Any] | None = config.norm_stats
        self.vocab_size = config.action_vocabulary()


def _vision_backbone(config: PrismaticConfig) -> Any:
    towers = [
        {"act_layer": activation, **options}
        for activation, options in zip(config.timm_override_act_layers, config.tower_options(), strict=True)
    ]
    keys = sorted({key for tower in towers for key in tower})
    options = {key: [tower.get(key) for tower in towers] for key in keys}
    settings: Any = load("vision_backbone", "timm")
    return settings(
        models=tuple(config.timm_model_ids),
        image_size=config.image_sizes[0],
        resize=config.image_resize_strategy,
        options=options,
        attention="eager" if config._attn_implementation == "eager" else "sdpa",
    ).build()


def _refuse_shapes(model: nn.Module, info: Mapping[str, Any], source: str | Path) -> None:
    for entry in sorted(info["mismatched_keys"], key=str):
        name, *shapes = (entry,) if isinstance(entry, str) else entry  # transformers 4 tells the names alone
        found = f"shape {list(shapes[0])}" if shapes else "another shape"
        expected = list(model.get_parameter(name).shape)
        raise CheckpointError(f"{source}: '{name}' has {found}; config.json makes it {expected}.")


def _refuse_gaps(info: Mapping[str, Any], source: str | Path) -> None:
    problems = [
        f"{len(names)} {what}, first '{names[0]}'"
        for key, what in (
            ("missing_keys", "expected and not found"),
            ("unexpected_keys", "found and not expected"),
        )
        if (names := sorted(name for name in info[key] if not computed(name)))
    ]
    if problems:
        raise CheckpointError(f"{source}: tensors do not fit config.json: {'; '.join(problems)}.")


def _patch_count(features: Tensor | None, mask: Tensor | None, *, length: int, past: int) -> int:
    """Return how many places of the sequence a mask of its texts does not cover: those of patches.

    Raises:
        UserError: the mask covers more, or fewer than the texts.
    """
    if past == 0 and mask is not None and mask.shape[1] != length:
        raise UserError(f"attention_mask covers {mask.shape[1]} places of a text of {length}.")
    if features is not None:
        return features.shape[1]
    missing = 0 if mask is None else past + length - mask.shape[1]
    if missing < 0:
        raise UserError(f"attention_mask covers {mask.shape[1]} places of a text of {past + length}.")  # type: ignore[union-attr]
    return missing


def _positions(mask: Tensor | None, length: int) -> Tensor | None:
    """Return positions [B, length] of the last places of a mask; None counts from the cache."""
    if mask is None:
        return None
    return (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
