"""From the name of a device to one that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openvla_toolkit.core.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["usable_device"]


def usable_device(name: str, *, setting: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, ``cuda:1``, ... after making sure that it can hold numbers.

    Args:
        name: ``auto`` is a CUDA device where there is one, else the CPU.
        setting: how the user calls what was given, for the error.

    Raises:
        UserError: torch knows no such device, or it is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{setting} '{name}' is not usable here: {reason}. Take 'cpu', or a device that this machine has."
        ) from error
    return device
