"""From the name of a device to one that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openvla_toolkit.core.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["usable_device"]


def usable_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        UserError: there is no such device, or it does not answer.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"train.engine.device '{name}' is not usable here: {reason}.") from error
    return device
