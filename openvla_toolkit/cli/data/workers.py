"""The options that say where the work of a part is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic import BaseModel

from openvla_toolkit.core.complaints import validated
from openvla_toolkit.core.yaml_lines import parse_value
from openvla_toolkit.interfaces.executor import AnyExecutor, Executor

__all__ = ["chosen_executor", "worker_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def worker_options(command: Command) -> Command:
    """Give a part the options ``--executor`` and ``--workers``."""
    given = click.option(
        "--workers", type=click.IntRange(min=1), help="Processes; one per core unless given."
    )
    named = click.option(
        "--executor",
        default="processes",
        show_default=True,
        metavar="NAME",
        help="Where the work is done: a name, or settings as in a recipe: '{name: ray, address: auto}'.",
    )
    return named(given(command))


def chosen_executor(executor: str, workers: int | None) -> Executor:
    """Return what the two options ask for.

    Raises:
        RecipeError: there is no such executor, or it has no such setting.
    """
    asked = parse_value(executor)
    settings = {"name": asked} if isinstance(asked, str) else asked
    if workers is not None and isinstance(settings, dict):
        settings = {**settings, "workers": workers}
    return validated(_Asked, {"executor": settings}).executor.build()


class _Asked(BaseModel):
    executor: AnyExecutor
