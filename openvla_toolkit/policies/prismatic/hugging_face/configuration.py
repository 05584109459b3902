"""``config.json`` of published OpenVLA and Prismatic checkpoints, field by field.

Fields that the original derives from the two ids (``timm_model_ids``, ``image_sizes``, ...) may be given
instead of a known id, so that any timm Vision Transformer and any causal language model can stand here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig

from openvla_toolkit.catalog.backbones import language_entry, language_ids, vision_entry
from openvla_toolkit.checkpoints.formats.plain import is_plain
from openvla_toolkit.checkpoints.layout import BLOCK
from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.errors import CheckpointError

__all__ = ["OpenVLAConfig", "PrismaticConfig"]

_DEFAULT_VISION, _DEFAULT_LANGUAGE = "siglip-vit-so400m", "vicuna-v15-7b"
_STRATEGIES = ("resize-naive", "resize-crop", "letterbox")


class PrismaticConfig(PretrainedConfig):
    """Settings of a Prismatic vision-language model."""

    model_type = "prismatic"
    sub_configs = {"text_config": AutoConfig}
    # Not written unless set on an instance; there for every one, so that from_pretrained takes them by name.
    timm_options = None

    def __init__(
        self,
        vision_backbone_id: str | None = None,
        llm_backbone_id: str | None = None,
        arch_specifier: str = "no-align+gelu-mlp",
        use_fused_vision_backbone: bool | None = None,
        image_resize_strategy: str = "letterbox",
        text_config: Mapping[str, Any] | None = None,
        llm_max_length: int = 2048,
        pad_token_id: int = 32000,
        pad_to_multiple_of: int = 64,
        output_projector_states: bool = False,
        *,
        timm_model_ids: Sequence[str] | None = None,
        timm_override_act_layers: Sequence[str | None] | None = None,
        image_sizes: Sequence[int] | None = None,
        hf_llm_id: str | None = None,
        timm_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Derive what is not given from the ids.

        Args:
            vision_backbone_id: None for the original's default, or for none where the towers are given.
            llm_backbone_id: None for the original's default, or for none where ``text_config`` is given.
            arch_specifier: ``[no-align+]linear``, ``...gelu-mlp`` or ``...fused-gelu-mlp``.
            text_config: settings of the language model; None takes the library's own for the architecture.
            timm_options: further arguments of ``timm.create_model``, one mapping per tower; no field of the
                original, and not written unless it is given.

        Raises:
            UserError: an id is not known and what it would decide is not given.
            CheckpointError: fields contradict each other; names both.
        """
        if vision_backbone_id is None and (timm_model_ids is None or image_sizes is None):
            vision_backbone_id = _DEFAULT_VISION
        if llm_backbone_id is None and not text_config:
            llm_backbone_id = _DEFAULT_LANGUAGE
        self.vision_backbone_id, self.llm_backbone_id = vision_backbone_id, llm_backbone_id
        self.arch_specifier, self.image_resize_strategy = arch_specifier, image_resize_strategy
        self.llm_max_length, self.pad_to_multiple_of = llm_max_length, pad_to_multiple_of
        self.output_projector_states = output_projector_states
        if timm_model_ids is None or image_sizes is None:
            known = vision_entry(str(vision_backbone_id))
            timm_model_ids = timm_model_ids or known.towers
            image_sizes = image_sizes or [known.image_size] * len(known.towers)
            timm_override_act_layers = timm_override_act_layers or known.activations("hugging-face")
        self.timm_model_ids = list(timm_model_ids)
        self.image_sizes = list(image_sizes)
        self.timm_override_act_layers = list(timm_override_act_layers or [None] * len(self.timm_model_ids))
        if timm_options is not None:
            self.timm_options = [dict(entry) for entry in timm_options]
        fused = len(self.timm_model_ids) > 1
        self.use_fused_vision_backbone = (
            fused if use_fused_vision_backbone is None else use_fused_vision_backbone
        )
        self._check()
        self.hf_llm_id = hf_llm_id
        if hf_llm_id is None and llm_backbone_id in language_ids():
            self.hf_llm_id = language_entry(str(llm_backbone_id)).hub_id
        self.text_config = _text_config(text_config, llm_backbone_id)
        kwargs.setdefault(
            "tie_word_embeddings", bool(getattr(self.text_config, "tie_word_embeddings", False))
        )
        super().__init__(**{"pad_token_id": pad_token_id, **kwargs})

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds, also under names that transformers before 5 reads.

        The toolkit's own block is left out, its towers' options becoming ``timm_options``: nothing that is
        saved from here writes the contract that belongs to it. A policy that published fields cannot
        describe (two cameras, another code of actions) keeps it, to be refused without its contract rather
        than taken for another.
        """
        content: dict[str, Any] = super().to_diff_dict()
        block = content.get(BLOCK)
        if block and is_plain(block["policy"], language_id=self.llm_backbone_id):
            del content[BLOCK]
            if any(options := self.tower_options()):
                content["timm_options"] = [dict(entry) for entry in options]
        for key in ("vision_backbone_id", "llm_backbone_id"):
            if content.get(key, "") is None:
                del content[key]
        text = dict(content["text_config"])
        if (rope := text.get("rope_parameters")) and "rope_theta" in rope:
            text.setdefault("rope_theta", rope["rope_theta"])
        for settings in (content, text):
            if settings.get("dtype") is not None:
                settings["torch_dtype"] = settings["dtype"]
        return {**content, "text_config": text}

    def tower_options(self) -> list[Mapping[str, Any]]:
        """Return arguments of ``timm.create_model`` per tower; toolkit folders keep them in a block."""
        if self.timm_options is not None:
            return list(self.timm_options)
        block = getattr(self, BLOCK, None) or {}
        options = block.get("policy", {}).get("vision_backbone", {}).get("options", {})
        return [
            {key: value[index] if isinstance(value, list) else value for key, value in options.items()}
            for index in range(len(self.timm_model_ids))
        ]

    def projector_name(self) -> str:
        """Return which projector ``arch_specifier`` asks for, as the original reads it.

        Raises:
            CheckpointError: none.
        """
        if self.arch_specifier.removeprefix("no-align+") == "linear":
            return "linear"
        for name in ("fused-gelu-mlp", "gelu-mlp"):
            if self.arch_specifier.endswith(name):
                return name
        raise CheckpointError(
            f"config.json: 'arch_specifier' is {self.arch_specifier!r}; expected 'linear', or an ending "
            "'gelu-mlp' or 'fused-gelu-mlp'."
        )

    def _check(self) -> None:
        towers = len(self.timm_model_ids)
        lengths = {
            "image_sizes": len(self.image_sizes),
            "timm_override_act_layers": len(self.timm_override_act_layers),
            "timm_options": len(self.timm_model_ids if self.timm_options is None else self.timm_options),
        }
        for field, length in lengths.items():
            if length != towers:
                raise CheckpointError(
                    f"config.json: '{field}' has {length} entries for {towers} 'timm_model_ids'."
                )
        if self.use_fused_vision_backbone != (towers > 1):
            raise CheckpointError(
                f"config.json: 'use_fused_vision_backbone' is {self.use_fused_vision_backbone}, but "
                f"'timm_model_ids' has {towers}."
            )
        if len(set(self.image_sizes)) > 1:
            raise CheckpointError(
                f"config.json: 'image_sizes' is {self.image_sizes}; both towers see pictures of one size."
            )
        if self.image_resize_strategy not in _STRATEGIES:
            raise CheckpointError(
                f"config.json: 'image_resize_strategy' is {self.image_resize_strategy!r}; expected one of "
                f"{', '.join(_STRATEGIES)}."
            )
        self.projector_name()


class OpenVLAConfig(PrismaticConfig):
    """Settings of a model that acts: those of a Prismatic model, and what turns its words into actions."""

    model_type = "openvla"
    separator_id = 29871

    def __init__(
        self,
        norm_stats: Mapping[str, Any] | None = None,
        n_action_bins: int = 256,
        *,
        separator_id: int | None = 29871,
        **kwargs: Any,
    ) -> None:
        """Take what a Prismatic model takes, and more.

        Args:
            norm_stats: statistics per data set, as in ``dataset_statistics.json``.
            separator_id: id that stands before the first action token (Llama's empty token); None for none.
                Not a field of the original.
        """
        self.norm_stats, self.n_action_bins = norm_stats, n_action_bins
        if separator_id != type(self).separator_id:
            self.separator_id = separator_id  # type: ignore[assignment]
        super().__init__(**kwargs)

    def action_normalization(self) -> Normalization:
        """Return how actions were scaled: as the toolkit's block says, else as published models are."""
        block = getattr(self, BLOCK, None) or {}
        return Normalization.model_validate(block.get("policy", {}).get("normalization") or {})

    def action_vocabulary(self) -> int:
        """Return the id from which action ids count down, by the original's rule."""
        return self.text_config.vocab_size - self.pad_to_multiple_of  # type: ignore[no-any-return]


def _text_config(given: Any, llm_backbone_id: str | None) -> Any:
    """Return the language model's settings; its architecture is that of the id where they name none."""
    if isinstance(given, PretrainedConfig):
        return given
    settings = dict(given or {})
    model_type = settings.pop("model_type", None)
    if model_type is None:
        model_type = language_entry(llm_backbone_id or _DEFAULT_LANGUAGE).model_type
    try:
        return AutoConfig.for_model(model_type, **settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise CheckpointError(
            f"config.json: 'text_config' does not describe a language model: {reason}."
        ) from error
