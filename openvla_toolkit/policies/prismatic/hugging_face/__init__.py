"""OpenVLA and Prismatic models as classes of ``transformers``.

The names are resolved on first use, and with the first one all classes are registered with ``transformers``,
as ``openvla_toolkit.register_auto_classes()`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvla_toolkit.policies.prismatic.hugging_face.configuration import OpenVLAConfig, PrismaticConfig
    from openvla_toolkit.policies.prismatic.hugging_face.modeling import (
        OpenVLAForActionPrediction,
        PrismaticForConditionalGeneration,
    )
    from openvla_toolkit.policies.prismatic.hugging_face.processing import (
        PrismaticImageProcessor,
        PrismaticProcessor,
    )
    from openvla_toolkit.policies.prismatic.hugging_face.register import register_auto_classes

__all__ = [
    "OpenVLAConfig",
    "OpenVLAForActionPrediction",
    "PrismaticConfig",
    "PrismaticForConditionalGeneration",
    "PrismaticImageProcessor",
    "PrismaticProcessor",
    "register_auto_classes",
]


def __getattr__(name: str) -> Any:
    """Register all classes and return the one that was asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openvla_toolkit.policies.prismatic.hugging_face import register

    register.register_auto_classes()
    return getattr(register, name)
