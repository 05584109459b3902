"""A batch on its way from the memory of the CPU to a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["on_device"]


def on_device(batch: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """Return a batch's tensors on a device.

    To a CUDA device they go from pinned memory, and nobody waits for them: the process goes on to queue the
    work that needs them. On the CPU they share the arrays' memory.
    """
    import torch

    tensors = {key: torch.from_numpy(array) for key, array in batch.items()}
    if device.type != "cuda":
        return {key: tensor.to(device) for key, tensor in tensors.items()}
    return {key: tensor.pin_memory().to(device, non_blocking=True) for key, tensor in tensors.items()}
