"""The policy in memory: observations in, actions in the robot's units out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openvla_toolkit.checkpoints.adapters import adapter_names
from openvla_toolkit.checkpoints.formats import fingerprint, hugging_face_files, lora
from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.load import policy_block
from openvla_toolkit.core.contract import Contract, refuse_windows
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.statistics import Statistics, select_statistics, unnormalize
from openvla_toolkit.core.types import ActionChunk, Observation
from openvla_toolkit.interfaces.action_head import ActionHead, LossReport
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.adapting import Base, written_settings
from openvla_toolkit.policies.prismatic.images import picture_array
from openvla_toolkit.policies.prismatic.model import PrismaticModel, answering, tied_names
from openvla_toolkit.policies.prismatic.processor import PrismaticProcessor
from openvla_toolkit.policies.prismatic.text import TextCode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from openvla_toolkit.policies.prismatic.conversation import Conversation, Speaker

__all__ = ["OpenVLAPolicy"]


class OpenVLAPolicy:
    """A Prismatic model with all that it needs to act; ``config`` is complete, without open defaults."""

    def __init__(
        self,
        config: OpenVLAConfig,
        module: PrismaticModel,
        *,
        tokenizer: PreTrainedTokenizerFast,
        contract: Contract,
        statistics: Mapping[str, Statistics],
        base: Base | None = None,
    ) -> None:
        assert config.head is not None
        assert config.prompt is not None
        assert config.max_tokens is not None
        refuse_windows(contract, policy=config.name)
        self.config, self.tokenizer, self._base = config, tokenizer, base
        self._model = module
        self.module: nn.Module = module
        self.contract = contract
        self.statistics: Mapping[str, Statistics] = statistics
        code = TextCode.of(tokenizer, length_limit=config.max_tokens)
        self.head: ActionHead = config.head.build(
            vocabulary_size=code.vocabulary_size, end_id=code.end_id, separator_id=code.separator_id
        )
        self.processor: Processor = PrismaticProcessor(
            contract, code=code, prompt=config.prompt, targets=self.head.targets
        )

    def loss(self, module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Return the loss of a collated batch; ``module`` is the policy's own or an engine's wrapping."""
        return self.head.loss(module, batch)

    def predict_chunks(
        self, observations: Sequence[Observation], *, unnorm_key: str | None = None
    ) -> list[ActionChunk]:
        """Return one action chunk per observation, in the robot's units; prompts may differ in length.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``, or a camera's picture is missing or of
                another size than the robot's camera gives.
        """
        moments = select_statistics(self.statistics, unnorm_key).action
        if not observations:
            return []
        batch = self._batch([self.processor.encode_observation(observation) for observation in observations])
        with answering(self.module):
            decoded = self.head.decode(self.module, batch, (self.contract.chunk, len(moments.mean)))
        actions = unnormalize(decoded.actions, moments, self.contract.normalization)
        tokens = [None] * len(actions) if decoded.tokens is None else decoded.tokens
        return [ActionChunk(actions=rows, tokens=ids) for rows, ids in zip(actions, tokens, strict=True)]

    def predict_action(
        self,
        observation: Any,
        instruction: str | None = None,
        *,
        unnorm_key: str | None = None,
    ) -> NDArray[np.float64]:
        """Return the next action [A], in the robot's units, or [B, A] for a list of observations.

        Args:
            observation: an ``Observation``, or a picture (Pillow, or uint8 [height, width, 3]) of the only
                camera, or a mapping from camera names to pictures; or a list of these.
            instruction: what to do; with an ``Observation`` it is in there.
            unnorm_key: the data set whose statistics scale the actions; needed where the policy has several.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``, or a camera's picture is missing or of
                another size than the robot's camera gives.
            UserError: an instruction is missing, or given twice.
        """
        many = isinstance(observation, (list, tuple))
        observations = [
            self._observation(one, instruction) for one in (observation if many else [observation])
        ]
        chunks = self.predict_chunks(observations, unnorm_key=unnorm_key)
        actions = np.array([chunk.actions[0] for chunk in chunks])
        return actions if many else actions[0]

    @cached_property
    def speaker(self) -> Speaker:
        """What answers in words, sharing the policy's weights."""
        from openvla_toolkit.policies.prismatic.conversation import Speaker

        return Speaker(self)

    def generate(self, image: Any | None, prompt: str, **settings: Any) -> str:
        """Return how the model goes on after a prompt about a picture; None for text alone.

        The prompt is taken as it stands; ``chat`` writes it in the model's style.

        Args:
            settings: of the ``generate`` of transformers (``max_new_tokens``, ...); greedy by default.
        """
        return self.speaker.generate([image], [prompt], **settings)[0]

    def chat(self, image: Any | None = None, *, system: str | None = None) -> Conversation:
        """Begin a conversation about a picture: ``policy.chat(image).say("What is this?")``.

        Args:
            system: replaces the prompt style's own system prompt.
        """
        from openvla_toolkit.policies.prismatic.conversation import Conversation

        return Conversation(self, image, system=system)

    @torch.inference_mode()
    def activations(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """Return what goes in and comes out for one observation, to compare two policies.

        ``input_ids`` [L] and ``pixel_values`` [C x 3 x towers, S, S]; ``image_features`` [P, D] as they enter
        the language model; ``logits`` [V] that predict the first id of the answer.
        """
        item = self.processor.encode_observation(observation)
        batch = self._batch([item])
        with answering(self.module):
            features = self._model.image_features(batch["pixel_values"])
            hidden, _ = self._model.prefill(batch["input_ids"], batch["attention_mask"], features)
            answers = {"image_features": features[0].float(), "logits": self._model.logits(hidden)[0]}
        return {**item, **{key: value.cpu().numpy() for key, value in answers.items()}}

    def _batch(self, items: Sequence[Mapping[str, NDArray[np.generic]]]) -> dict[str, Tensor]:
        """Collate encoded observations, on the policy's device."""
        device = next(self._model.projector.parameters()).device
        collated = self.processor.collate(items, side="left")
        return {key: torch.from_numpy(value).to(device) for key, value in collated.items()}

    def _observation(self, given: Any, instruction: str | None) -> Observation:
        if isinstance(given, Observation):
            if instruction is not None:
                raise UserError("the instruction is in the Observation; leave the second argument out.")
            return given
        if instruction is None:
            raise UserError(
                'an instruction is needed beside a picture: predict_action(image, "pick up the cup").'
            )
        if not isinstance(given, Mapping):
            cameras = self.contract.cameras
            if len(cameras) > 1:
                raise UserError(
                    f"the policy looks at {len(cameras)} cameras; give a mapping with {', '.join(cameras)}."
                )
            given = {cameras[0]: given}
        return Observation(
            images={name: picture_array(picture) for name, picture in given.items()}, instruction=instruction
        )

    def weight_names(self) -> list[str] | None:
        """Return the names of an adapter's tensors, or None where there is none: then all are saved."""
        return adapter_names(self.module) or None

    def save(
        self, folder: Path, *, weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Write the policy into an empty folder so that ``load_policy(folder)`` gives it back.

        Of a policy with an adapter beside its weights, the adapter alone is written, and all that is not
        weights; the folder says what the adapter belongs to.

        Args:
            weights: written instead of the module's own (an engine's ``full_weights``).
            dtype: number type of the tensors on disk; None keeps that of memory.

        Raises:
            StorageError: the disk is full or refuses to be written.
            UserError: it is quantized.
        """
        names = self.weight_names()
        if names is not None:
            self._save_adapter(folder, self._state(weights, names))
            return
        if self.config.quantization is not None:
            raise UserError(
                "a policy with quantized weights cannot be saved as a whole: load it without 'quantization'."
            )
        tensors = self._state(weights, None)
        for name in tied_names(self._model):
            tensors.pop(name, None)
        content = self._content(folder, tensors)
        hugging_face_files.write(folder, content, tokenizer=self.tokenizer, dtype=dtype)

    def _save_adapter(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        assert self._base is not None
        lora.write(folder, tensors, base=self._base.source, settings=written_settings(self.module))
        if self._base.fingerprint is not None:
            fingerprint.write(folder, self._base.fingerprint)
        hugging_face_files.write_settings(folder, self._content(folder, {}), tokenizer=self.tokenizer)

    def _state(self, weights: Mapping[str, Tensor] | None, names: list[str] | None) -> dict[str, Tensor]:
        """Return the tensors to be saved; an adapter is asked for by name, without touching its base."""
        if weights is None:
            weights = dict(self.module.named_parameters()) if names else self.module.state_dict()
        return dict(weights) if names is None else {name: weights[name] for name in names}

    def _content(self, folder: Path, tensors: Mapping[str, Tensor]) -> Content:
        return Content(
            place=str(folder),
            policy=policy_block(self.config)["policy"],
            text_config=self._model.language_model.config.to_diff_dict(),
            contract=self.contract,
            statistics={name: entry.to_json() for name, entry in self.statistics.items()},
            tokenizer=str(self.tokenizer.name_or_path),
            tensors=tensors.items,
        )
