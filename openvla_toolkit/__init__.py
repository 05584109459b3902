"""Vision-language-action robot policies from one recipe: data in; a trained, measured, exported policy out.

The public names are resolved on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvla_toolkit.catalog.models import available_model_names, available_models, get_model_description
    from openvla_toolkit.checkpoints.load import load_policy
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.core.registry import available_components
    from openvla_toolkit.policies.prismatic.hugging_face.register import register_auto_classes
    from openvla_toolkit.stages.run_recipe import run

__all__ = [
    "Recipe",
    "__version__",
    "available_components",
    "available_model_names",
    "available_models",
    "get_model_description",
    "load_policy",
    "register_auto_classes",
    "run",
]

__version__ = "0.1.0"

_HOMES = {
    "Recipe": "openvla_toolkit.core.recipe",
    "available_components": "openvla_toolkit.core.registry",
    "available_model_names": "openvla_toolkit.catalog.models",
    "available_models": "openvla_toolkit.catalog.models",
    "get_model_description": "openvla_toolkit.catalog.models",
    "load_policy": "openvla_toolkit.checkpoints.load",
    "register_auto_classes": "openvla_toolkit.policies.prismatic.hugging_face.register",
    "run": "openvla_toolkit.stages.run_recipe",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
