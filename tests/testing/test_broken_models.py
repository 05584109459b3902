"""A check that cannot fail is worth nothing: prompts, codes and models that break one promise each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openvla_toolkit.action_tokenizers import UniformBinsConfig
from openvla_toolkit.action_tokenizers.uniform_bins import UniformBins
from openvla_toolkit.core.contract import ImageRecipe, Interface
from openvla_toolkit.core.types import ActionChunk, Observation
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.language_model import LanguageModel, LanguageModelConfig
from openvla_toolkit.interfaces.prompt import PromptConfig
from openvla_toolkit.interfaces.vision_backbone import VisionBackboneConfig
from openvla_toolkit.testing import (
    LinearPolicy,
    LinearPolicyConfig,
    check_action_tokenizer,
    check_language_model,
    check_policy,
    check_prompt,
    check_vision_backbone,
    tiny_policy,
)
from openvla_toolkit.testing.fakes.linear import LinearProcessor

# --- prompts and codes


class _Prompt:
    """Breaks what ``fault`` names."""

    shared: ClassVar[list[str]] = []

    def __init__(self, fault: str) -> None:
        self._fault, self._turns = fault, self.shared if fault == "shares" else []

    def add_turn(self, speaker: str, message: str) -> str:
        turn = {"mute": "...", "loud": message.upper()}.get(self._fault, message)
        if self._fault == "reversed":
            self._turns.insert(0, turn)
        else:
            self._turns.append(turn)
        return turn

    def text(self) -> str:
        return " ".join(self._turns) + " " * (self._fault == "padded")


class AnyPromptConfig(PromptConfig):
    """Breaks what it is told to."""

    name: Literal["any"] = "any"
    fault: str

    def build(self) -> Any:
        return _Prompt(self.fault)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("mute", r"the turn to contain 'what is seen\?'"),
        ("loud", "the turn to contain"),
        ("reversed", "a turn to be appended"),
        ("padded", r"text\(\) without trailing white space"),
        ("shares", "a new conversation to begin empty"),
    ],
)
def test_a_prompt_that_breaks_a_promise(fault: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"prompt 'any': expected {complaint}"):
        check_prompt(AnyPromptConfig(fault=fault))


class _NoClip(UniformBins):
    def encode(self, actions: Any) -> Any:
        return super().encode(np.where(np.abs(actions) > 1, -actions, actions))


class _Descending(UniformBins):
    def ids(self) -> Any:
        return super().ids()[::-1].copy()


class _Flat(UniformBins):
    def encode(self, actions: Any) -> Any:
        return super().encode(actions).reshape(-1)


class _Coarse(UniformBins):
    def decode(self, ids: Any) -> Any:
        return super().decode(ids) * 0.9


class _Stranger(UniformBins):
    def ids(self) -> Any:
        return super().ids()[1:]


CODES = [_NoClip, _Descending, _Flat, _Coarse, _Stranger]


class AnyCodeConfig(UniformBinsConfig):
    """Builds the code it is told to."""

    def build(self, *, vocabulary_size: int) -> UniformBins:
        return CODES[self.bins - 2](bins=64, low=-1, high=1, vocabulary_size=vocabulary_size)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (_NoClip, "numbers past the range to be clipped"),
        (_Descending, r"ids\(\) to ascend"),
        (_Flat, r"encode\(\) to give int64 \(40, 25, 4\)"),
        (_Coarse, "a round trip to be at most one bin"),
        (_Stranger, r"ids of ids\(\) only"),
    ],
)
def test_a_code_that_breaks_a_promise(code: type[UniformBins], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_action_tokenizer(AnyCodeConfig(bins=CODES.index(code) + 2))


# --- networks


class _Backbone(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self._fault, self.embed_dim, self.num_patches = fault, 4, 4
        setattr(self, "tower" if fault == "named" else "featurizer", nn.Conv2d(3, 4, 4, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        if self._fault == "blind":
            pixels = torch.zeros_like(pixels)
        if self._fault == "mixes":
            pixels = pixels - pixels.mean(0)
        features: Tensor = next(iter(self.children()))(pixels).flatten(2).transpose(1, 2)
        if self._fault == "frozen":
            features = features.detach().requires_grad_()
        return features[:, 1:] if self._fault == "short" else features

    def image_recipe(self) -> ImageRecipe:
        colours = ((0.5, 0.5, 0.5),) * (2 if self._fault == "colourful" else 1)
        return ImageRecipe(size=8, means=colours, stds=colours)

    def shard_units(self) -> list[nn.Module]:
        return [nn.Identity()] if self._fault == "foreign" else list(self.children())


class AnyBackboneConfig(VisionBackboneConfig):
    """Breaks what it is told to."""

    name: Literal["any"] = "any"
    fault: str

    def build(self) -> Any:
        return _Backbone(self.fault)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("named", "parameters under featurizer or fused_featurizer"),
        ("blind", "two pictures to have two sets of features"),
        ("mixes", "features of a picture to be its own"),
        ("frozen", "parameters that take a gradient"),
        ("short", r"features \(2, 4, 4\), found \(2, 3, 4\)"),
        ("colourful", r"means and stds of 1 tower\(s\), found \(2, 2\)"),
        ("foreign", r"shard_units\(\) to be modules of its own"),
    ],
)
def test_a_backbone_that_breaks_a_promise(fault: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"vision_backbone 'any': expected {complaint}"):
        check_vision_backbone(AnyBackboneConfig(fault=fault))


def test_a_sound_backbone_passes() -> None:
    check_vision_backbone(AnyBackboneConfig(fault="none"))


class NoPaddingConfig(LanguageModelConfig):
    """Pads with the end of sequence."""

    name: Literal["no-padding"] = "no-padding"

    def build(self) -> LanguageModel:
        model: LanguageModel = tiny_policy().language_model.build()  # type: ignore[attr-defined]
        model.tokenizer.pad_token = model.tokenizer.eos_token
        return model


def test_a_language_model_that_pads_with_its_end() -> None:
    with pytest.raises(AssertionError, match="a padding id of its own"):
        check_language_model(NoPaddingConfig())


class _WrongShape(LinearPolicy):
    def predict_chunks(self, observations: Sequence[Observation], *, unnorm_key: str | None = None) -> Any:
        chunks = super().predict_chunks(observations, unnorm_key=unnorm_key)
        return [ActionChunk(actions=chunk.actions[:, :2]) for chunk in chunks]


class _MixesBatch(LinearPolicy):
    def predict_chunks(self, observations: Sequence[Observation], *, unnorm_key: str | None = None) -> Any:
        chunks = super().predict_chunks(observations, unnorm_key=unnorm_key)
        return [ActionChunk(actions=chunk.actions + len(chunks)) for chunk in chunks]


class _AnyKey(LinearPolicy):
    def predict_chunks(self, observations: Sequence[Observation], *, unnorm_key: str | None = None) -> Any:
        return super().predict_chunks(observations)


class _Climbs(LinearPolicy):
    def loss(self, module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        report = super().loss(module, batch)
        return report._replace(total=report.total.detach() * 2 - report.total)


class _Forgets(LinearPolicy):
    def save(self, folder: Path, *, weights: Mapping[str, Tensor] | None = None) -> None:
        super().save(folder, weights={k: v * 0 for k, v in self.module.state_dict().items()})


class _OtherRobot(LinearPolicy):
    def __init__(self, contract: Any, statistics: Any, *, seed: int = 0) -> None:
        robot = contract.robot.model_copy(update={"control_hz": 1.0})
        super().__init__(contract.model_copy(update={"robot": robot}), statistics, seed=seed)


class _LosesTheFrame(LinearPolicy):
    def __init__(self, contract: Any, statistics: Any, *, seed: int = 0) -> None:
        super().__init__(_unframed(contract), statistics, seed=seed)


class _SeesTheBorder(LinearPolicy):
    def __init__(self, contract: Any, statistics: Any, *, seed: int = 0) -> None:
        super().__init__(contract, statistics, seed=seed)
        self.processor = LinearProcessor(_unframed(contract))


def _unframed(contract: Any) -> Any:
    images = contract.images.model_copy(update={"frame": None})
    return contract.model_copy(update={"images": images})


# The first is the one that a saved policy is loaded as.
POLICIES = [
    *(_Forgets, _WrongShape, _MixesBatch, _AnyKey, _Climbs, _OtherRobot, _LosesTheFrame, _SeesTheBorder)
]


class AnyPolicyConfig(LinearPolicyConfig):
    """Builds the policy it is told to."""

    def build(self, *, robot: Interface | None = None, statistics: Any = None) -> LinearPolicy:
        plain = super().build(robot=robot, statistics=statistics)
        policy = POLICIES[self.seed](plain.contract, plain.statistics)
        policy.module = plain.module
        return policy


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (_WrongShape, r"finite actions \(1, 3\)"),
        (_MixesBatch, "an answer to be the same alone as in a batch"),
        (_AnyKey, "a ContractMismatch for an unknown unnorm_key"),
        (_Climbs, "a step against the gradient to lower the loss"),
        (_Forgets, "a saved policy to answer"),
        (_OtherRobot, "the contract to hold the robot it was given"),
        (_LosesTheFrame, "a contract with the frame 'resample='fused' crop=0.25'"),
        (_SeesTheBorder, "a policy to see its frame alone"),
    ],
)
def test_a_policy_that_breaks_a_promise(policy: type[LinearPolicy], complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"policy 'dots-linear': expected {complaint}"):
        check_policy(AnyPolicyConfig(seed=POLICIES.index(policy)))
