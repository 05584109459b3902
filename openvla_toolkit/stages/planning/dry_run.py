"""What a training would be, told without reading data, fetching weights or making them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.mixture import MixtureConfig

if TYPE_CHECKING:
    from torch import nn

    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.interfaces.policy import PolicyConfig

__all__ = ["foreseen"]


def foreseen(recipe: Recipe, processes: int) -> Iterator[str]:
    """Yield lines about the policy, its data, steps, memory and device; what is missing is told, not refused.

    Raises:
        CheckpointError: the weights that are here do not fit the settings.
        UserError: the device is not there, or an adapter fits no layer.
    """
    assert recipe.train is not None
    yield from _policy(recipe, processes)
    for position, config in enumerate(recipe.data):
        yield f"data     data.{position} {_data(config)}"
    yield f"steps    {_steps(recipe, processes)}"
    yield f"device   {_device(recipe)}"


def _policy(recipe: Recipe, processes: int) -> Iterator[str]:
    from openvla_toolkit.checkpoints.locate import at_hand

    config = cast("PolicyConfig", recipe.policy)
    if config.weights is not None:
        place = at_hand(config.weights)
        where = "not here yet: the run fetches them from the hub" if place is None else str(place)
        yield f"weights  {config.weights} ({where})"
    module = config.outline()
    if module is None:
        yield "trained  known when the weights are here"
        return
    yield f"trained  {_trained(module)}"
    yield f"memory   {_memory(recipe, module, processes)}"


def _trained(module: nn.Module) -> str:
    parts = [(name, list(part.parameters())) for name, part in module.named_children()]
    counts = {name: (_count(all_of, trained=True), _count(all_of)) for name, all_of in parts}
    own = list(module.parameters())
    detail = ", ".join(f"{name} {_short(some)} of {_short(every)}" for name, (some, every) in counts.items())
    return f"{_short(_count(own, trained=True))} of {_short(_count(own))} parameters: {detail}"


def _count(parameters: Sequence[nn.Parameter], *, trained: bool = False) -> int:
    return sum(one.numel() for one in parameters if one.requires_grad or not trained)


def _memory(recipe: Recipe, module: nn.Module, processes: int) -> str:
    from openvla_toolkit.stages.planning.memory import kept, spread_of

    assert recipe.train is not None
    keeps = kept(module, recipe.train, spread_of(recipe, processes))
    parts = (keeps.total, keeps.weights, keeps.gradients + keeps.optimizer)
    whole, weights, learning = map(_bytes, parts)
    return (
        f"{whole}: weights {weights}, gradients and optimizer {learning}; this on each device, and "
        "activations on top: 'openvla plan' tells"
    )


def _data(config: Any) -> str:
    """Return what a data set is called and whether it is there; opens it and reads no episode."""
    makes = type(config).prepare is not DatasetConfig.prepare if isinstance(config, DatasetConfig) else False
    try:
        members = config.build() if isinstance(config, MixtureConfig) else [config]
        names = [member.build().describe().name for member in members]
    except OpenVLAError as error:
        missing = "not made yet: the run makes it" if makes else f"not here: {error}"
        return f"{config.name} {getattr(config, 'dataset', '')}: {missing}"
    return f"{config.name}: {', '.join(names)}"


def _steps(recipe: Recipe, processes: int) -> str:
    assert recipe.train is not None
    batch = recipe.train.batch
    share = batch.total // processes
    at_a_time = batch.per_device or share
    passes = share // at_a_time
    steps = recipe.train.steps or f"those of {recipe.train.epochs:g} epochs,"
    return (
        f"{steps} of {batch.total} samples: {processes} process{'es' if processes > 1 else ''} "
        f"x {at_a_time} at a time x {passes} pass{'es' if passes > 1 else ''}"
    )


def _device(recipe: Recipe) -> str:
    from openvla_toolkit.core.devices import usable_device

    assert recipe.train is not None
    asked = getattr(recipe.train.engine, "device", "auto")
    return f"{usable_device(asked, setting='train.engine.device')} here, engine {recipe.train.engine.name}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _short(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
