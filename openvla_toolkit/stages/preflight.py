"""What can be seen to be wrong before anything is read, built or started."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

from openvla_toolkit.core.errors import RecipeError, UserError

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.core.sections import Train
    from openvla_toolkit.interfaces.engine import EngineConfig
    from openvla_toolkit.interfaces.policy import PolicyConfig

__all__ = ["check_processes", "check_recipe"]

_FIGURES = ("loss", "grad_norm", "lr", "token_accuracy", "l1")
"""What the policies of this toolkit tell of every step."""


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose sections do not go together.

    Raises:
        RecipeError: names the key.
    """
    if recipe.policy is None and recipe.stages != ("prepare",):
        raise RecipeError("this recipe trains or measures a policy and names none.", path="policy")
    if recipe.export:
        raise RecipeError("exporting is not built yet (see docs/explanation/limits.md).", path="export")
    if recipe.train is None:
        return
    if not recipe.data:
        raise RecipeError("this recipe trains a policy and names no data to train on.", path="data")
    cast("PolicyConfig", recipe.policy).check_trainable()
    _check_quantised(recipe)
    _check_training(recipe.train)


def _check_quantised(recipe: Recipe) -> None:
    """Refuse what the engine would refuse when the weights are read."""
    bits = getattr(recipe.policy, "quantization", None)
    engine = cast("EngineConfig", cast("Train", recipe.train).engine)
    if bits is not None and not engine.takes_quantised:
        raise RecipeError(
            f"weights in {bits} are quantised, and the engine '{engine.name}' spreads plain numbers as it is "
            "set: take train.engine.name=ddp.",
            path="policy.quantization",
        )


def _check_training(train: Train) -> None:
    engine = cast("EngineConfig", train.engine)
    if train.optimizer.ema is not None and not engine.averages:
        raise RecipeError(
            f"the engine '{engine.name}' keeps no running mean of the weights: leave 'ema' out, or take "
            "train.engine.name=ddp or fsdp.",
            path="train.optimizer.ema",
        )
    best = train.keep_best
    if best is None:
        return
    if best.metric.startswith("validation/") and train.validation is None:
        raise RecipeError(
            f"'{best.metric}' is measured on held-out data, and nothing is held out: give train.validation.",
            path="train.keep_best",
        )
    # A policy may tell figures of its own, so that only what is nearly one of these is taken for a mistake.
    figure = best.metric.removeprefix("validation/")
    near = get_close_matches(figure, _FIGURES, n=1, cutoff=0.8)
    if near and near[0] != figure and abs(len(near[0]) - len(figure)) <= 1:
        raise RecipeError(
            f"no figure '{best.metric}'. Did you mean '{best.metric.removesuffix(figure)}{near[0]}'?",
            path="train.keep_best",
        )


def check_processes(recipe: Recipe, count: int) -> None:
    """Refuse a number of processes that the recipe has no work for.

    Raises:
        RecipeError: the engine is one process, or the batch does not divide.
        UserError: the recipe trains nothing.
    """
    if count == 1:
        return
    if recipe.train is None:
        raise UserError(
            f"this recipe trains nothing, and only training is spread over processes: start one, not {count}."
        )
    engine = cast("EngineConfig", recipe.train.engine)
    if not engine.distributed:
        raise RecipeError(
            f"the engine '{engine.name}' is one process, and there are {count}: take one that spreads the "
            "work ('openvla plugins engine' lists them), or start one process.",
            path="train.engine.name",
        )
    batch = recipe.train.batch
    share = count * (batch.per_device or 1)
    if batch.total % share:
        each = "" if batch.per_device is None else f" with {batch.per_device} samples at a time"
        below, above = batch.total // share * share, (batch.total // share + 1) * share
        near = f"{below} or {above}" if below else str(above)
        raise RecipeError(
            f"{batch.total} samples do not divide over {count} processes{each}; choose a multiple of "
            f"{share}, such as {near}.",
            path="train.batch.total",
        )
