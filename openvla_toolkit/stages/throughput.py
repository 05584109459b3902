"""How much of what a device could compute a training does compute."""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass

import torch

__all__ = ["PEAK_FLOPS", "Machine", "peak_flops", "peak_memory"]

PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 150e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A6000": 155e12,
    "RTX 6000 Ada": 364e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Part of a device's name -> operations per second with bf16 matrices without sparsity, as its maker states
them; the first that fits counts. In fp32 with TF32 off devices reach a fraction of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a rank computes on."""

    device: torch.device
    utilisation: float | None
    """Share of one device's peak that one sample per second takes; None where the peak is not known."""


def peak_flops(name: str) -> float | None:
    """Return a device's peak by its name; None where it is not known, a CPU's in any case."""
    return next((peak for part, peak in PEAK_FLOPS.items() if re.search(rf"\b{part}\b", name)), None)


def peak_memory(device: torch.device) -> float:
    """Return the most bytes that tensors have taken on a CUDA device, or this process on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
