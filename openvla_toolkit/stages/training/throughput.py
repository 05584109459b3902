"""How much of what a device could compute a training does compute."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

__all__ = ["PEAK_FLOPS", "Machine", "peak_flops", "peak_memory"]

PEAK_FLOPS: Mapping[str, Mapping[str, float]] = {
    "B200": {"bf16": 2250e12, "fp32": 80e12},
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 51e12},
    "H100 NVL": {"bf16": 835e12, "fp32": 60e12},
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "H20": {"bf16": 148e12, "fp32": 44e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "A800": {"bf16": 312e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
    "L40": {"bf16": 181e12, "fp32": 90.5e12},
    "L4": {"bf16": 121e12, "fp32": 30.3e12},
    "A40": {"bf16": 150e12, "fp32": 37.4e12},
    "A10G": {"bf16": 70e12},
    "A10": {"bf16": 125e12, "fp32": 31.2e12},
    "A6000": {"bf16": 155e12, "fp32": 38.7e12},
    "RTX 6000 Ada": {"bf16": 364.2e12, "fp32": 91.1e12},
    "RTX 5090": {"bf16": 209.5e12, "fp32": 104.8e12},
    "RTX 4090": {"bf16": 165e12, "fp32": 82.6e12},
    "RTX 3090": {"bf16": 71e12, "fp32": 35.6e12},
}
"""Part of a device's name -> arithmetic -> operations per second with matrices without sparsity, as its maker
states them; the first name that fits counts. Nothing here switches TF32 on: fp32 is fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a rank computes on."""

    device: torch.device
    utilisation: float | None
    """Share of one device's peak that one sample per second takes; None where the peak is not known."""


def peak_flops(name: str, precision: str = "bf16") -> float | None:
    """Return a device's peak by its name; None where it is not known, a CPU's in any case."""
    found = (part for part in PEAK_FLOPS if re.search(rf"\b{part}\b", name, re.IGNORECASE))
    return PEAK_FLOPS.get(next(found, ""), {}).get(precision)


def peak_memory(device: torch.device) -> float:
    """Return the most bytes that tensors have taken on a CUDA device, or this process on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
