"""A Prismatic model in words: answers to prompts about pictures, and conversations turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.policies.prismatic.hugging_face.configuration import PrismaticConfig
from openvla_toolkit.policies.prismatic.hugging_face.modeling import PrismaticForConditionalGeneration
from openvla_toolkit.policies.prismatic.images import Pixels, picture_array
from openvla_toolkit.policies.prismatic.model import answering

if TYPE_CHECKING:
    from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

__all__ = ["Conversation", "Speaker"]

_SETTINGS: dict[str, Any] = {"max_new_tokens": 512, "do_sample": False}
"""What ``generate`` is told unless the caller says otherwise: the likeliest words, and not too many."""


class Speaker:
    """Writes on where prompts end, with the ``generate`` of ``transformers``; no weights are copied."""

    def __init__(self, policy: OpenVLAPolicy) -> None:
        config, images = policy.config, policy.contract.images
        assert config.max_tokens is not None
        self._tokenizer: Any = policy.tokenizer
        self._pixels = Pixels(images)
        self._limit = config.max_tokens
        parts: Any = policy.module
        self._parts = policy.module
        towers = len(images.means)
        self._model: Any = PrismaticForConditionalGeneration(
            PrismaticConfig(
                arch_specifier=config.projector or "gelu-mlp",
                image_resize_strategy=images.strategy,
                text_config=deepcopy(parts.language_model.config),  # choices for the whole reach its parts
                timm_model_ids=["taken over"] * towers,
                image_sizes=[images.size] * towers,
                pad_token_id=self._tokenizer.pad_token_id,
            ),
            parts=parts,
        )

    def generate(self, images: Sequence[Any | None], prompts: Sequence[str], **settings: Any) -> list[str]:
        """Return what follows each prompt, without special tokens and white space around it.

        Args:
            images: per prompt a picture (Pillow, or uint8 [height, width, 3]), or None for text alone.
            settings: of ``generate`` (``max_new_tokens``, ``temperature``, ...); greedy by default.

        Raises:
            UserError: there are not as many pictures as prompts, or one is no picture.
        """
        batch = self._batch(images, prompts)
        settings = {
            "pad_token_id": self._tokenizer.pad_token_id,
            "eos_token_id": self._tokenizer.eos_token_id,
            **_SETTINGS,
            **settings,
        }
        with answering(self._parts):
            ids = self._model.generate(**batch, **settings)
        new = ids[:, batch["input_ids"].shape[1] :]
        answers = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    @torch.inference_mode()
    def probabilities(self, image: Any | None, prompt: str, answers: Sequence[str]) -> dict[str, float]:
        """Return how likely the model goes on with each of these answers, relative to one another.

        Raises:
            UserError: an answer is more than one token.
        """
        ids = [self._tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
        for answer, tokens in zip(answers, ids, strict=True):
            if len(tokens) != 1:
                raise UserError(f"'{answer}' is {len(tokens)} tokens; answers of one token can be compared.")
        batch = self._batch([image], [prompt])
        with answering(self._parts):
            logits = self._model(**batch, logits_to_keep=1).logits[0, -1].float()
        likely = torch.softmax(logits[[tokens[0] for tokens in ids]], dim=0)
        return dict(zip(answers, likely.tolist(), strict=True))

    def _batch(self, images: Sequence[Any | None], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return prompts, padded on the left, and the pixels of those that have a picture."""
        if len(images) != len(prompts) or not prompts:
            raise UserError(
                f"{len(images)} pictures and {len(prompts)} prompts were given; give one picture per prompt."
            )
        rows = [self._tokenizer.encode(prompt)[: self._limit] for prompt in prompts]
        longest = max(map(len, rows))
        pad = self._tokenizer.pad_token_id
        pictured = [image is not None for image in images]
        batch = {
            "input_ids": torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
            "multimodal_indices": torch.tensor(pictured),
        }
        given = [picture_array(image) for image in images if image is not None]
        if given:
            pixels = np.stack([self._pixels(picture, camera="image") for picture in given])
            batch["pixel_values"] = torch.from_numpy(pixels)
        return {key: value.to(self._model.device) for key, value in batch.items()}


class Conversation:
    """Turns with a model about one picture, written in the prompt style it was trained on.

    Example:
        >>> talk = Conversation(policy, image)  # doctest: +SKIP
        >>> talk.say("What is on the table?")  # doctest: +SKIP
    """

    def __init__(self, policy: OpenVLAPolicy, image: Any | None = None, *, system: str | None = None) -> None:
        """Begin.

        Args:
            system: replaces the style's own system prompt.
        """
        assert policy.config.prompt is not None
        prompt = policy.config.prompt
        if system is not None:
            prompt = prompt.model_copy(update={"system": system})
        self._speaker, self._image, self._style = policy.speaker, image, prompt.build()

    def say(self, message: str, **settings: Any) -> str:
        """Say something and return the answer; both are remembered.

        Args:
            settings: of ``generate``; greedy by default.
        """
        self._style.add_turn("human", message)
        answer = self._speaker.generate([self._image], [self._style.text()], **settings)[0]
        self._style.add_turn("gpt", answer)
        return answer
