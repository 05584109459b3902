"""The classes under the names that ``transformers`` looks for."""

from __future__ import annotations

from inspect import signature
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor

from openvla_toolkit.policies.prismatic.hugging_face.configuration import OpenVLAConfig, PrismaticConfig
from openvla_toolkit.policies.prismatic.hugging_face.modeling import (
    OpenVLAForActionPrediction,
    PrismaticForConditionalGeneration,
)
from openvla_toolkit.policies.prismatic.hugging_face.processing import (
    PrismaticImageProcessor,
    PrismaticProcessor,
)

__all__ = ["register_auto_classes"]

_CLASSES = (
    (PrismaticConfig, PrismaticForConditionalGeneration),
    (OpenVLAConfig, OpenVLAForActionPrediction),
)
_MODEL_FACTORIES = ("AutoModelForImageTextToText", "AutoModelForVision2Seq")
"""The second is gone since transformers 5."""

_IMAGE_PROCESSOR: dict[str, Any] = (
    {"image_processor_classes": {"pil": PrismaticImageProcessor, "torchvision": PrismaticImageProcessor}}
    if "image_processor_classes" in signature(AutoImageProcessor.register).parameters
    else {"slow_image_processor_class": PrismaticImageProcessor}
)


def register_auto_classes() -> None:
    """Let ``transformers`` load OpenVLA and Prismatic checkpoints without remote code.

    After it, ``AutoModelForImageTextToText.from_pretrained("openvla/openvla-7b")`` and ``AutoProcessor`` give
    the toolkit's classes. May be called again.
    """
    for config, model in _CLASSES:
        AutoConfig.register(config.model_type, config, exist_ok=True)
        for name in _MODEL_FACTORIES:
            if (factory := getattr(transformers, name, None)) is not None:
                factory.register(config, model, exist_ok=True)
        AutoImageProcessor.register(config, exist_ok=True, **_IMAGE_PROCESSOR)
        AutoProcessor.register(config, PrismaticProcessor, exist_ok=True)
