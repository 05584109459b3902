"""Two loops that train the same adapter of the same network: the toolkit's, and one written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import torch
from numpy.typing import NDArray

from openvla_toolkit.checkpoints.adapters import adapted, attach
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.policies.prismatic.hugging_face.configuration import OpenVLAConfig
from openvla_toolkit.policies.prismatic.hugging_face.modeling import OpenVLAForActionPrediction
from openvla_toolkit.policies.prismatic.model import PrismaticModel
from openvla_toolkit.stages.planning.rehearsal import Part, rehearse

__all__ = ["ATTENTION", "SEVEN_B", "TINY", "Shape", "Step", "by_hand", "sample_flops", "toolkit"]

Step: TypeAlias = Callable[[], float]
"""Takes one optimizer step and returns its loss."""

LR, CLIP, LEARNED = 5e-4, 1.0, 8
ATTENTION = "sdpa"
"""In both loops, and in the vision backbone torch's scaled dot product as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is trained, on how much at a time."""

    name: str
    network: Mapping[str, Any]
    """Fields of the Hugging Face configuration."""
    batch: int
    text: int
    """Tokens of prompt and answer, of which the last eight are learned."""
    rank: int
    steps: int
    """Of one turn of a loop."""


SEVEN_B = Shape(
    name="OpenVLA-7B, random weights",
    network={"vision_backbone_id": "dinosiglip-vit-so-224px", "llm_backbone_id": "llama2-7b-pure"},
    batch=16,
    text=36,
    rank=32,
    steps=8,
)
TINY = Shape(
    name="two blocks of width 32, random weights",
    network={
        "timm_model_ids": ["vit_tiny_patch16_224"],
        "image_sizes": [32],
        "timm_options": [{"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}],
        "use_fused_vision_backbone": False,
        "text_config": {
            "model_type": "llama",
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
        },
        "pad_to_multiple_of": 0,
    },
    batch=4,
    text=20,
    rank=4,
    steps=2,
)


def toolkit(shape: Shape, device: torch.device, *, activation_checkpointing: bool = False) -> Step:
    """Return a step of the toolkit: its model, its adapter, its loss, its engine."""
    module = _adapted(shape, device)
    settings = {
        "name": "single",
        "device": str(device),
        "precision": "bf16",
        "activation_checkpointing": activation_checkpointing,
    }
    engine: Any = by_name("engine")(settings).build()  # type: ignore[attr-defined]
    engine.prepare(module, Optimizer(lr=LR))
    head: Any = by_name("action_head")("tokens")
    vocabulary = module.language_model.config.vocab_size
    loss = head.build(vocabulary_size=vocabulary, end_id=2, separator_id=None).loss
    batch = _batch(shape, module.vision_backbone.image_recipe().size, vocabulary)

    def step() -> float:
        report = engine.step([batch], loss, lr=LR, clip_norm=CLIP)
        return float(report.loss)

    return step


def by_hand(shape: Shape, device: torch.device) -> Step:
    """Return a step of a loop as one writes it with peft and a model of transformers."""
    from peft import LoraConfig, get_peft_model

    model: Any = _network(shape, device)
    size, vocabulary = model.config.image_sizes[0], model.config.text_config.vocab_size
    settings = _lora(shape, adapted(model, "all-linear"))
    model = get_peft_model(model, LoraConfig(**settings)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0)
    arrays = _batch(shape, size, vocabulary)

    def step() -> float:
        batch = {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
        with torch.autocast(device.type, torch.bfloat16):
            output = model(
                input_ids=batch["input_ids"],
                attention_mask=torch.ones_like(batch["input_ids"]),
                pixel_values=batch["pixel_values"].bfloat16(),
                labels=batch["labels"],
            )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(output.loss.detach())

    return step


def sample_flops(shape: Shape) -> int:
    """Return the operations of learning from one sample, forward and backward, nothing computed twice."""
    outline = _adapted(shape, torch.device("meta"))
    part = Part(samples=1, text=shape.text, learned=LEARNED)
    return rehearse(outline, part, bf16=True, computed_twice=False).flops


def _adapted(shape: Shape, device: torch.device) -> PrismaticModel:
    """Return the toolkit's own network with an adapter."""
    parts = _network(shape, device)
    module = PrismaticModel(parts.vision_backbone, parts.projector, parts.language_model)
    attach(module, _lora(shape, adapted(module, "all-linear")))
    for unused in module.vision_backbone.never_executed():
        unused.requires_grad_(False)
    return module


def _network(shape: Shape, device: torch.device) -> Any:
    """Make the network of transformers with random weights in bf16, on its device from the beginning."""
    torch.manual_seed(0)
    with torch.device(device):
        config = OpenVLAConfig(**shape.network, attn_implementation=ATTENTION)
        return OpenVLAForActionPrediction(config).bfloat16()


def _lora(shape: Shape, layers: list[str]) -> dict[str, Any]:
    return {
        "r": shape.rank,
        "lora_alpha": min(shape.rank, 16),
        "lora_dropout": 0.0,
        "target_modules": layers,
        "init_lora_weights": "gaussian",
    }


def _batch(shape: Shape, size: int, vocabulary: int) -> dict[str, NDArray[Any]]:
    """Return one batch, the same for both: a picture, a prompt and an answer in each row."""
    generator = np.random.default_rng(0)
    ids = generator.integers(3, vocabulary, (shape.batch, shape.text))
    labels = np.full_like(ids, -100)
    labels[:, -LEARNED:] = ids[:, -LEARNED:]
    towers = len(OpenVLAConfig(**shape.network).timm_model_ids)
    pixels = generator.normal(size=(shape.batch, 3 * towers, size, size)).astype(np.float32)
    return {
        "input_ids": ids,
        "labels": labels,
        "pixel_values": pixels,
        "image_rows": np.arange(shape.batch),
        "is_action": np.ones(shape.batch, dtype=bool),
    }
