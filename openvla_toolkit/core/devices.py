"""From the name of a device to one that can be used, and what is said when it is full."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openvla_toolkit.core.errors import OutOfMemory, UserError
from openvla_toolkit.core.ranks import Ranks

if TYPE_CHECKING:
    import torch

__all__ = ["out_of_memory_named", "release_memory", "usable_device"]

_FULL = ("out of memory", "allocate memory")
"""What CUDA and torch's allocators say when there is no room."""


def usable_device(name: str, *, setting: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, ``cuda:1``, ... after making sure that it can hold numbers.

    Args:
        name: ``auto`` is a CUDA device where there is one, else the CPU. Of several processes on a machine
            each takes the CUDA device of its local rank, whichever is named. A CUDA device is the current
            one from then on, which libraries take that are told of none.
        setting: how the user calls what was given, for the error.

    Raises:
        UserError: torch knows no such device, or it is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    ranks = Ranks.here()
    if name.startswith("cuda") and ranks.world_size > 1:
        if ranks.local_rank >= torch.cuda.device_count():
            raise UserError(
                f"{setting} '{name}': rank {ranks.rank} has no GPU of its own, there are "
                f"{torch.cuda.device_count()} for {ranks.local_world_size} processes. Start one for each."
            )
        name = f"cuda:{ranks.local_rank}"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is not None and torch.cuda.is_available():
            torch.cuda.set_device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{setting} '{name}' is not usable here: {reason}. Take 'cpu', or a device that this machine has."
        ) from error
    return device


def release_memory() -> None:
    """Give back what nobody can reach any more: modules hold each other in circles, and what CUDA's allocator
    keeps is of no use to a module of another size."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Turn what torch says of a full device, or machine, into an ``OutOfMemory`` that says what helps."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else ""
        if not any(sign in reason for sign in _FULL):
            raise
        ranks = Ranks.here()
        where = f"rank {ranks.rank} of {ranks.world_size}: " if ranks.world_size > 1 else ""
        raise OutOfMemory(
            f"{where}there is no room for this training ({reason}). Lower train.batch.per_device (the rest "
            "of the batch is accumulated, the step is the same), or give train.engine."
            "activation_checkpointing=true; 'openvla plan RECIPE --gpu 80GB' says what fits and what else "
            "helps. Then go on with --resume."
        ) from error
