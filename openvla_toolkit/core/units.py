"""A module's blocks: run twice to save memory, compiled to save time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["prepare_units", "shard_units"]


def shard_units(module: nn.Module) -> list[nn.Module]:
    """Return the blocks that a module offers; none where it offers none."""
    offered: Any = getattr(module, "shard_units", list)
    return list(offered())


def prepare_units(module: nn.Module, *, recompute: bool, compiled: bool = False) -> None:
    """Have the blocks computed again in the backward pass, or compiled, as asked.

    Only their ``forward`` is replaced: names of parameters stay, and what an engine hangs on a block (FSDP
    fetches parameters before it is called) stays outside.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    for unit in shard_units(module):
        forward: Any = unit.forward
        if compiled:
            forward = torch.compile(forward)
        if recompute:
            forward = partial(checkpoint, forward, use_reentrant=False)
        if forward is not unit.forward:
            unit.forward = forward
