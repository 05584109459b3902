"""The policy in memory: observations in, actions in the robot's units out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from openvla_toolkit.checkpoints.layout import CONFIG_FILE, CONTRACT_FILE, STATISTICS_FILE, WEIGHTS_FILE
from openvla_toolkit.checkpoints.load import BLOCK, policy_block
from openvla_toolkit.checkpoints.tensors import write_tensors
from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.statistics import Statistics, select_statistics, unnormalize
from openvla_toolkit.core.storage import storage_errors
from openvla_toolkit.core.types import ActionChunk, Observation
from openvla_toolkit.interfaces.action_head import ActionHead, LossReport
from openvla_toolkit.interfaces.policy import Processor
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.model import PrismaticModel, tied_names
from openvla_toolkit.policies.prismatic.processor import PrismaticProcessor
from openvla_toolkit.policies.prismatic.text import TextCode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
    ) -> None:
        assert config.head is not None
        assert config.prompt is not None
        assert config.max_tokens is not None
        self.config, self.tokenizer = config, tokenizer
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
            ContractMismatch: unknown or ambiguous ``unnorm_key``, or a camera's picture is missing.
        """
        moments = select_statistics(self.statistics, unnorm_key).action
        if not observations:
            return []
        items = [self.processor.encode_observation(observation) for observation in observations]
        device = next(self._model.projector.parameters()).device
        batch = {
            key: torch.from_numpy(value).to(device)
            for key, value in self.processor.collate(items, side="left").items()
        }
        training = self.module.training
        if training:
            self.module.eval()
        decoded = self.head.decode(self.module, batch, (self.contract.chunk, len(moments.mean)))
        if training:
            self.module.train()
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
            camera,
                or a mapping from camera names to pictures; or a list of these.
            instruction: what to do; with an ``Observation`` it is in there.
            unnorm_key: the data set whose statistics scale the actions; needed where the policy has several.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``, or a camera's picture is missing.
            UserError: an instruction is missing, or given twice.
        """
        many = isinstance(observation, (list, tuple))
        observations = [
            self._observation(one, instruction) for one in (observation if many else [observation])
        ]
        chunks = self.predict_chunks(observations, unnorm_key=unnorm_key)
        actions = np.array([chunk.actions[0] for chunk in chunks])
        return actions if many else actions[0]

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
            images={name: _pixels(picture) for name, picture in given.items()}, instruction=instruction
        )

    def save(
        self, folder: Path, *, weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Write the policy into an empty folder so that ``load_policy(folder)`` gives it back.

        Args:
            weights: written instead of the module's own (an engine's ``full_weights``).
            dtype: number type of the tensors on disk; None keeps that of memory.

        Raises:
            StorageError: the disk is full or refuses to be written.
        """
        tensors = dict(self.module.state_dict() if weights is None else weights)
        for name in tied_names(self._model):
            tensors.pop(name, None)
        with storage_errors(folder):
            write_tensors(folder / WEIGHTS_FILE, tensors, dtype=dtype)
            statistics = {name: entry.to_json() for name, entry in self.statistics.items()}
            _write_json(folder / STATISTICS_FILE, statistics)
            _write_json(folder / CONTRACT_FILE, self.contract.model_dump(mode="json"))
            _write_json(folder / CONFIG_FILE, self._config_json())
            _save_tokenizer(self.tokenizer, folder)

    def _config_json(self) -> dict[str, Any]:
        """Return ``config.json``: the keys of a published OpenVLA checkpoint, and the toolkit's own block."""
        images, language = self.contract.images, self._model.language_model
        return {
            "model_type": "openvla",
            "architectures": ["OpenVLAForActionPrediction"],
            "arch_specifier": f"no-align+{self.config.projector}",
            "use_fused_vision_backbone": len(images.means) > 1,
            "image_resize_strategy": images.strategy,
            "image_sizes": [images.size] * len(images.means),
            "llm_max_length": self.config.max_tokens,
            "pad_token_id": self.tokenizer.pad_token_id,
            "text_config": language.config.to_diff_dict(),
            BLOCK: policy_block(self.config),
        }


def _save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer's files under a class name that every release of transformers knows."""
    tokenizer.save_pretrained(folder)
    place = folder / "tokenizer_config.json"
    settings = json.loads(place.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    _write_json(place, settings)


def _pixels(picture: Any) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
