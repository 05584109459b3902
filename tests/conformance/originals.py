"""From what the kit says, in the original's words, to parts of the toolkit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from openvla_toolkit import load_policy
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.types import Observation
from openvla_toolkit.interfaces.prompt import PromptConfig
from openvla_toolkit.language_models.tokenizer import open_tokenizer
from openvla_toolkit.policies.prismatic.model import PrismaticModel
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.conformance import kit

STYLES = ("pure", "vicuna-v15", "llama2-chat", "mistral-instruct", "phi")
QUESTION = "What action should the robot take to {instruction}?"
CLOSE: Any = {"rtol": 1e-4, "atol": 1e-4}
"""Float32 results of networks."""


def sha256(array: NDArray[Any]) -> str:
    """Return the digest of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@cache
def kit_tokenizer() -> PreTrainedTokenizerFast:
    """Return the kit's tokenizer with the padding token that the original adds at load time."""
    return open_tokenizer(str(kit.root() / "tokenizer"))


def prompt_config(builder: str, *, system: str | None = None) -> PromptConfig:
    """Return the prompt style that the original calls ``builder``; some styles ignore a system prompt."""
    config = load("prompt", builder.replace("_", "-"))
    takes_one = config.model_fields["system"].annotation is not type(None)
    return config(system=system if takes_one else None)  # type: ignore[return-value]


def asked(style: str, task: str) -> str:
    """Return the prompt in which a style asks for an action."""
    prompt = prompt_config(style).build()
    prompt.add_turn("human", QUESTION.replace("{instruction}", task.lower()))
    return prompt.text()


def style_of(prompt: str, task: str) -> str:
    """Return the style that writes this prompt for this task."""
    found = [style for style in STYLES if asked(style, task) == prompt]
    assert found, f"no style of {STYLES} writes {prompt!r}."
    return found[0]


@cache
def policy_of(folder: Path, *, dtype: str = "float32") -> OpenVLAPolicy:
    """Load a policy from a folder of the kit, whatever its format."""
    policy = load_policy(folder, dtype=dtype)  # type: ignore[arg-type]
    assert isinstance(policy, OpenVLAPolicy)
    return policy


def hugging_face(model: str, *, dtype: str = "float32") -> OpenVLAPolicy:
    """Load the converted form of one of the kit's models."""
    return policy_of(kit.root() / "model" / model / "hf", dtype=dtype)


def speaking(policy: OpenVLAPolicy, style: str, *, constrain: bool = False) -> OpenVLAPolicy:
    """Return a policy that asks in another style and decodes as the original, or among action ids only."""
    assert policy.config.head is not None
    head = policy.config.head.model_copy(update={"constrain": constrain})
    changes: dict[str, Any] = {"prompt": prompt_config(style), "head": head}
    return OpenVLAPolicy(
        policy.config.model_copy(update=changes),
        model_of(policy),
        tokenizer=policy.tokenizer,
        contract=policy.contract,
        statistics=policy.statistics,
    )


def model_of(policy: OpenVLAPolicy) -> PrismaticModel:
    """Return a policy's network."""
    assert isinstance(policy.module, PrismaticModel)
    return policy.module


def observation(policy: OpenVLAPolicy, picture: str, task: str) -> Observation:
    """Show a policy with one camera a picture of the kit."""
    (camera,) = policy.contract.cameras
    return Observation(images={camera: kit.picture(picture)}, instruction=task)


def pixels_of(policy: OpenVLAPolicy, picture: str) -> Tensor:
    """Return the pixels [1, channels, height, width] that a policy makes of a picture of the kit."""
    item = policy.processor.encode_observation(observation(policy, picture, ""))
    return torch.from_numpy(item["pixel_values"])[None]


@torch.inference_mode()
def hidden_states(policy: OpenVLAPolicy, ids: list[int], pixels: Tensor | None) -> tuple[Tensor, ...]:
    """Return what enters and leaves the language model's layers, [places, width] each; the last is normed."""
    model = model_of(policy)
    decoder: Any = model.language_model.base_model
    embeddings = model.language_model.get_input_embeddings()(torch.tensor([ids]))
    if pixels is not None:
        patches = model.image_features(pixels)
        embeddings = torch.cat([embeddings[:, :1], patches, embeddings[:, 1:]], dim=1)
    states = decoder(inputs_embeds=embeddings, output_hidden_states=True, use_cache=False).hidden_states
    return tuple(state[0] for state in states)


def batch_of(policy: OpenVLAPolicy, items: list[Any], *, side: str = "right") -> dict[str, Tensor]:
    """Collate encoded items."""
    return {key: torch.from_numpy(value) for key, value in policy.processor.collate(items, side=side).items()}


def matching(names: dict[str, Any], pattern: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names that fit a regular expression, with its groups."""
    for name in sorted(names):
        if match := re.fullmatch(pattern, name):
            yield name, match.groups()
