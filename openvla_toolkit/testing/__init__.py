"""Contract checks and tiny fakes for plugin authors; works under any test runner.

``check_<kind>(config)`` raises ``AssertionError`` with a sentence when a component does not keep to the
interface of its kind. ``installed`` makes a component visible by name for a ``with`` block, and ``run_ranks``
runs a script as several ranks. The fakes are small but whole: a robot, a world, its episodes, and policies
that learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvla_toolkit.core.registry import installed
    from openvla_toolkit.testing.actions import check_action_head, check_action_tokenizer
    from openvla_toolkit.testing.data import check_dataset, check_mixture, check_transform
    from openvla_toolkit.testing.executors import check_executor
    from openvla_toolkit.testing.fakes.dots import DotsConfig, DotsEpisodesConfig, DotsRobotConfig
    from openvla_toolkit.testing.fakes.linear import LinearPolicy, LinearPolicyConfig, linear_policy
    from openvla_toolkit.testing.fakes.tiny import tiny_policy
    from openvla_toolkit.testing.models import check_language_model, check_vision_backbone
    from openvla_toolkit.testing.policies import check_policy
    from openvla_toolkit.testing.prompts import check_prompt
    from openvla_toolkit.testing.ranks import run_ranks
    from openvla_toolkit.testing.runs import check_evaluator, check_launcher, check_observer
    from openvla_toolkit.testing.training import check_engine
    from openvla_toolkit.testing.worlds import check_embodiment, check_environment

__all__ = [
    "DotsConfig",
    "DotsEpisodesConfig",
    "DotsRobotConfig",
    "LinearPolicy",
    "LinearPolicyConfig",
    "check_action_head",
    "check_action_tokenizer",
    "check_dataset",
    "check_embodiment",
    "check_engine",
    "check_environment",
    "check_evaluator",
    "check_executor",
    "check_language_model",
    "check_launcher",
    "check_mixture",
    "check_observer",
    "check_policy",
    "check_prompt",
    "check_transform",
    "check_vision_backbone",
    "installed",
    "linear_policy",
    "run_ranks",
    "tiny_policy",
]

_HOMES = {
    "DotsConfig": "fakes.dots",
    "DotsEpisodesConfig": "fakes.dots",
    "DotsRobotConfig": "fakes.dots",
    "LinearPolicy": "fakes.linear",
    "LinearPolicyConfig": "fakes.linear",
    "check_action_head": "actions",
    "check_action_tokenizer": "actions",
    "check_dataset": "data",
    "check_embodiment": "worlds",
    "check_engine": "training",
    "check_environment": "worlds",
    "check_evaluator": "runs",
    "check_executor": "executors",
    "check_language_model": "models",
    "check_launcher": "runs",
    "check_mixture": "data",
    "check_observer": "runs",
    "check_policy": "policies",
    "check_prompt": "prompts",
    "check_transform": "data",
    "check_vision_backbone": "models",
    "linear_policy": "fakes.linear",
    "run_ranks": "ranks",
    "tiny_policy": "fakes.tiny",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    from importlib import import_module

    if name == "installed":
        return import_module("openvla_toolkit.core.registry").installed
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
