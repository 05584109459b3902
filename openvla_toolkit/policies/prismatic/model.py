"""The network: vision backbone, projector and language model, with patches right after the first token.

Shape legend: B samples, M samples with images, C views, S pixels, P patches of all views, L text positions,
D width of the language model, K positions asked for, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.interfaces.vision_backbone import VisionBackbone
from openvla_toolkit.policies.prismatic.projector import Projector

__all__ = [
    "DecodingState",
    "PictureReader",
    "PrismaticModel",
    "answering",
    "output_factor",
    "splice",
    "tied_names",
]

_OTHER_OUTPUTS = ("logits_soft_cap", "output_logit_soft_cap")
"""Settings of architectures that bend their logits in a way of their own (RecurrentGemma, xLSTM)."""


class DecodingState(NamedTuple):
    """What one more token needs: the cache, which places are real, and where each row goes on."""

    cache: DynamicCache
    mask: Tensor | None
    """[B, places] False at padding; None where nothing is padded."""
    positions: Tensor
    """[B] position of the token to come."""


class PictureReader:
    """The pictures' way into the sequence, for every model with ``vision_backbone`` and ``projector``."""

    vision_backbone: Any
    projector: Any
    _channels: int
    """Of one picture: three per tower."""

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [M, C x 3 x towers, S, S] to projected patches [M, P, D], view after view."""
        parameters = list(self.vision_backbone.parameters())
        trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
        kind = next(parameter.dtype for parameter in parameters if parameter.is_floating_point())
        with torch.set_grad_enabled(trained):
            views = pixel_values.unflatten(1, (-1, self._channels)).flatten(0, 1)
            patches: Tensor = self.vision_backbone(views.to(kind))
        return self.projector(patches).unflatten(0, (len(pixel_values), -1)).flatten(1, 2)  # type: ignore[no-any-return]


class PrismaticModel(nn.Module, PictureReader):
    """The parameter names are those of published Hugging Face OpenVLA checkpoints.

    Three ways through it: ``forward`` for training on right-padded batches; ``image_features``, ``prefill``
    and ``decode_step`` for acting on left-padded ones; ``logits`` is the output layer, whole or some of its
    columns.
    """

    def __init__(
        self, vision_backbone: VisionBackbone, projector: Projector, language_model: PreTrainedModel
    ) -> None:
        super().__init__()
        output_factor(language_model.config)  # a refusal comes before any work
        self.vision_backbone: Any = vision_backbone
        self.projector = projector
        self.language_model = language_model
        self._channels = 3 * len(vision_backbone.image_recipe().means)

    def forward(self, input_ids: Tensor, pixel_values: Tensor, image_rows: Tensor, wanted: Tensor) -> Tensor:
        """Return float32 logits [K, V] that predict the wanted tokens.

        Padding stands on the right, where causal attention never lets a token see it, so no mask is needed
        and attention can take its fast path.

        Args:
            input_ids: [B, L], padded on the right.
            pixel_values: [M, C x 3 x towers, S, S] of the rows that have images.
            image_rows: [M] those rows, ascending.
            wanted: bool [B, L], true at the K tokens to predict, none of them in the first place.
        """
        embeddings = self._embed(input_ids)
        if len(image_rows) == 0:
            if _goes_along():
                blank = pixel_values.new_zeros(1, *pixel_values.shape[1:])
                embeddings = embeddings + 0 * self.image_features(blank).sum()
            return self.logits(self._read(embeddings)[_before(wanted)])
        features = self.image_features(pixel_values)
        patches = features.shape[1]
        if len(image_rows) == len(input_ids):
            embeddings = splice(embeddings, features, None)
            where = F.pad(wanted, (patches, 0))  # position t of the text stands at t + patches
        else:
            pictured = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
            pictured[image_rows] = True
            mixed = F.pad(embeddings, (0, 0, 0, patches))
            mixed[image_rows] = splice(embeddings[image_rows], features, None).to(mixed.dtype)
            embeddings = mixed
            where = torch.where(pictured[:, None], F.pad(wanted, (patches, 0)), F.pad(wanted, (0, patches)))
        return self.logits(self._read(embeddings)[_before(where)])

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks of all towers and of the language model."""
        decoder: Any = self.language_model.base_model
        blocks = list(getattr(decoder, "layers", ()))
        return [*self.vision_backbone.shard_units(), *blocks]

    def rehearse(self, *, samples: int, text: int, learned: int, pictures: int) -> Tensor:
        """Return the loss over blank samples, each with pictures of as many cameras.

        Args:
            text: tokens of prompt and answer.
            learned: how many of these are learned, the last ones.
        """
        size = self.vision_backbone.image_recipe().size
        place = self.projector.fc1.weight.device
        wanted = torch.zeros(samples, text, dtype=torch.bool, device=place)
        wanted[:, -learned:] = True
        pixels = torch.zeros(samples, pictures * self._channels, size, size, device=place)
        ids = torch.zeros(samples, text, dtype=torch.int64, device=place)
        logits = self(ids, pixels, torch.arange(samples, device=place), wanted)
        targets = torch.zeros(samples * learned, dtype=torch.int64, device=place)
        return F.cross_entropy(logits, targets, reduction="sum")

    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor, features: Tensor | None
    ) -> tuple[Tensor, DecodingState]:
        """Read left-padded prompts [B, L] and patches [B, P, D]; return the last hidden states [B, D]."""
        padding = (attention_mask == 0).sum(dim=1)
        starts = padding if bool(padding.any()) else None
        embeddings = self._embed(input_ids)
        if features is not None:
            embeddings = splice(embeddings, features, starts)
        places = torch.arange(embeddings.shape[1], device=input_ids.device).expand(len(input_ids), -1)
        if starts is None:
            return self._advance(embeddings, None, places, DynamicCache())
        real = places >= starts[:, None]
        return self._advance(embeddings, real, (places - starts[:, None]).clamp(min=0), DynamicCache())

    def decode_step(self, ids: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """Read one more token [B] per row; return hidden states [B, D]."""
        mask = None if state.mask is None else F.pad(state.mask, (0, 1), value=True)
        return self._advance(self._embed(ids[:, None]), mask, state.positions[:, None], state.cache)

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Map hidden states [..., D] to float32 logits [..., V], or to those of some ids only."""
        head: Any = self.language_model.get_output_embeddings()
        if columns is None:
            return self._scaled(head(hidden).float())
        if type(head) is not nn.Linear:  # an adapter beside its weight, or a weight in another form
            return self._scaled(head(hidden)[..., columns].float())
        bias = None if head.bias is None else head.bias[columns]
        return self._scaled(F.linear(hidden, head.weight[columns], bias).float())

    def _scaled(self, logits: Tensor) -> Tensor:
        """Return logits [...] as the architecture's own forward returns them; most leave them as they are."""
        config = self.language_model.config
        factor = output_factor(config)
        if factor != 1:
            logits = logits * factor
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    def _embed(self, ids: Tensor) -> Tensor:
        return self.language_model.get_input_embeddings()(ids)  # type: ignore[no-any-return]

    def _read(self, embeddings: Tensor) -> Tensor:
        """Return the last hidden states [B, places, D], without a mask and without a cache."""
        decoder: Any = self.language_model.base_model
        return decoder(inputs_embeds=embeddings, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def _advance(
        self, embeddings: Tensor, mask: Tensor | None, positions: Tensor, cache: DynamicCache
    ) -> tuple[Tensor, DecodingState]:
        decoder: Any = self.language_model.base_model
        output = decoder(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        state = DecodingState(cache=output.past_key_values, mask=mask, positions=positions[:, -1] + 1)
        return output.last_hidden_state[:, -1], state


def output_factor(config: Any) -> float:
    """Return what a language model multiplies its logits with.

    Raises:
        UserError: its architecture does something else with them.
    """
    if unknown := [key for key in _OTHER_OUTPUTS if getattr(config, key, None) is not None]:
        raise UserError(
            f"the language model '{config.model_type}' changes its logits by '{unknown[0]}', which policies "
            "do not; take another language model."
        )
    if config.model_type.startswith("cohere"):  # others have the field and leave it alone
        return float(config.logit_scale)
    factor = float(getattr(config, "lm_head_multiplier", 1.0))
    return factor / float(getattr(config, "logits_scaling", 1.0))


def splice(embeddings: Tensor, features: Tensor, starts: Tensor | None) -> Tensor:
    """Lay patches [B, P, D] right after the first real token of each row [B, L, D].

    Args:
        starts: [B] place of that token in each row; None where it is the first place of all.
    """
    features = features.to(embeddings.dtype)
    if starts is None:
        return torch.cat([embeddings[:, :1], features, embeddings[:, 1:]], dim=1)
    length, patches = embeddings.shape[1], features.shape[1]
    places = torch.arange(length + patches, device=embeddings.device)[None]
    behind = places - starts[:, None] - 1
    # Counting from the place behind the first token: text before it, then patches, then the rest of the text.
    source = torch.where(behind < 0, places, torch.where(behind < patches, length + behind, places - patches))
    rows = torch.arange(len(embeddings), device=embeddings.device)[:, None]
    return torch.cat([embeddings, features], dim=1)[rows, source]


@contextmanager
def answering(module: nn.Module) -> Iterator[None]:
    """Switch dropout off; afterwards, also after an error, the module trains or not as before."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def tied_names(model: PrismaticModel) -> list[str]:
    """Return the names of tensors that share another's memory and are not stored: a tied output layer's."""
    if not model.language_model.config.tie_word_embeddings:
        return []
    output: Any = model.language_model.get_output_embeddings()
    return [f"{name}.weight" for name, module in model.named_modules() if module is output]


def _goes_along() -> bool:
    """Tell whether other ranks may look at pictures in this pass, and wait for this one to do the same.

    Blocks that are spread over ranks are fetched, and gradients reduced, by all ranks together or not at all;
    DistributedDataParallel expects every gradient of a lone rank as well.
    """
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _before(wanted: Tensor) -> Tensor:
    """Return the places [B, places] right before the wanted ones, which predict them."""
    return F.pad(wanted[:, 1:], (0, 1))
