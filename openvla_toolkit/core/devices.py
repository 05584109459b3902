"""From the name of a device to one that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.ranks import Ranks

if TYPE_CHECKING:
    import torch

__all__ = ["usable_device"]


def usable_device(name: str, *, setting: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, ``cuda:1``, ... after making sure that it can hold numbers.

    Args:
        name: ``auto`` is a CUDA device where there is one, else the CPU. Of several processes on a machine
            each takes the CUDA device of its local rank, whichever is named.
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
        torch.cuda.set_device(ranks.local_rank)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{setting} '{name}' is not usable here: {reason}. Take 'cpu', or a device that this machine has."
        ) from error
    return device
