"""Which parameters an optimizer updates, at which share of the learning rate, and which of them decay."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from openvla_toolkit.core.sections import Optimizer, ParameterGroup

__all__ = ["parameter_groups", "set_learning_rate"]


def parameter_groups(module: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return torch's parameter groups of what requires gradients; empty where nothing does.

    A parameter belongs to the first entry of ``optimizer.groups`` that fits its name, else to all the rest.
    Vectors and biases do not decay, whatever the weight decay (the original's rule under FSDP). Every group
    holds ``lr_share``: the schedule's rate times this is its own (``set_learning_rate``). To be called on the
    module as the policy made it: wrappers that rename parameters come later.

    Raises:
        UserError: an entry fits no parameter that is trained.
    """
    entries: list[ParameterGroup | None] = [*optimizer.groups, None]
    halves: list[tuple[list[nn.Parameter], list[nn.Parameter]]] = [([], []) for _ in entries]
    trained = [(name, one) for name, one in module.named_parameters() if one.requires_grad]
    for name, parameter in trained:
        fitting = (number for number, entry in enumerate(optimizer.groups) if fnmatchcase(name, entry.match))
        decaying, plain = halves[next(fitting, -1)]
        (plain if parameter.ndim <= 1 or name.endswith(".bias") else decaying).append(parameter)
    groups = []
    for entry, (decaying, plain) in zip(entries, halves, strict=True):
        if entry is not None and not (decaying or plain):
            raise _fits_nothing(entry.match, [name for name, _ in trained])
        lr, decay = optimizer.lr, optimizer.weight_decay
        if entry is not None:
            lr = optimizer.lr if entry.lr is None else entry.lr
            decay = optimizer.weight_decay if entry.weight_decay is None else entry.weight_decay
        for parameters, own_decay in ((decaying, decay), (plain, 0.0)):
            if parameters:
                share = lr / optimizer.lr
                groups.append({"params": parameters, "weight_decay": own_decay, "lr": lr, "lr_share": share})
    return groups


def set_learning_rate(groups: Iterable[MutableMapping[str, Any]], lr: float) -> None:
    """Give every group of an optimizer (``optimizer.param_groups``) its share of the schedule's rate."""
    for group in groups:
        group["lr"] = lr * group["lr_share"]


def _fits_nothing(pattern: str, names: list[str]) -> UserError:
    some = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names)) or "nothing"
    return UserError(
        f"train.optimizer.groups: '{pattern}' fits no parameter that is trained, or an entry before it took "
        f"them all.{did_you_mean(pattern, names)} Trained are those of {some}."
    )
