"""What engines are built from, for those who write one.

A package with an engine of its own imports this module, ``openvla_toolkit.interfaces`` and the public names
of ``openvla_toolkit.core`` (component, types, errors, contract, hooks), and nothing else of the toolkit. What
is here means the same under every engine, and is best not written again: which parameters are trained and how
they are grouped, sums over micro-batches and ranks, and the training state that every engine can go on from.

``STEP`` is the name of the moment that counts a parameter's steps; all others have the parameter's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import nn

from openvla_toolkit.checkpoints.training_state import (
    STEP,
    host_copy,
    load_optimizer,
    load_random,
    read_moments,
    save_state,
    stored_moments,
    whole_copies,
)
from openvla_toolkit.core.batches import on_device
from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import TrainingError, UserError
from openvla_toolkit.core.parameter_groups import parameter_groups, set_learning_rate
from openvla_toolkit.core.processes import are_joined, join, lost_ranks_named
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.core.step_totals import StepTotals
from openvla_toolkit.core.units import prepare_units, shard_units

__all__ = [
    "STEP",
    "Optimizer",
    "Ranks",
    "StepTotals",
    "adamw",
    "are_joined",
    "fill_gradients",
    "host_copy",
    "join",
    "load_optimizer",
    "load_random",
    "lost_ranks_named",
    "on_device",
    "parameter_groups",
    "prepare_units",
    "read_moments",
    "refuse_quantised",
    "save_state",
    "set_learning_rate",
    "shard_units",
    "stored_moments",
    "trained_parameters",
    "usable_device",
    "whole_copies",
    "with_last",
]

T = TypeVar("T")


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return name -> parameter of what requires gradients.

    Raises:
        TrainingError: nothing does.
    """
    trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
    if not trained:
        raise TrainingError("no parameter of the policy requires gradients: there is nothing to train.")
    return trained


def adamw(module: nn.Module, optimizer: Optimizer) -> torch.optim.AdamW:
    """Return torch's fused AdamW over ``parameter_groups``, on whatever device they are.

    Raises:
        UserError: an entry of ``train.optimizer.groups`` fits no parameter that is trained.
    """
    return torch.optim.AdamW(
        parameter_groups(module, optimizer),
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        fused=True,
    )


def fill_gradients(trained: Iterable[nn.Parameter]) -> None:
    """Give parameters that a step has not reached a gradient of zeros, to be called before the update.

    AdamW leaves out what has no gradient, and whether there is one depends on how a step is spread: without a
    picture the vision tower has none in one process, and zeros among ranks, where it goes along. So a trained
    parameter takes every step under every engine: it decays, and goes on by its momentum. This holds for one
    that is never reached too, which decays to nothing: freeze what a policy does not use (``policy.freeze``).
    """
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Yield each item and whether it is the last one, one item ahead."""
    iterator = iter(items)
    for item in iterator:
        for following in iterator:
            yield item, False
            item = following
        yield item, True


def refuse_quantised(module: nn.Module, *, spread_by: str, instead: str) -> None:
    """Refuse weights of few bits where parameters are spread over ranks.

    Args:
        spread_by: what spreads them (``the engine 'fsdp'``).
        instead: the setting to choose (``train.engine.name=ddp``).

    Raises:
        UserError: there are some; names the first.
    """
    for name, parameter in module.named_parameters():
        if type(parameter) is not nn.Parameter:  # bitsandbytes' own, which become few bits on a device
            raise UserError(
                f"'{name}' is quantised ({type(parameter).__name__}), and {spread_by} spreads plain numbers: "
                f"take {instead}."
            )
