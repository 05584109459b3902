"""The benchmark stage: how long the policy takes to answer, on this machine."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.sections import Benchmark
from openvla_toolkit.core.storage import atomic_write_text
from openvla_toolkit.core.types import Observation
from openvla_toolkit.interfaces.policy import Policy

__all__ = ["benchmark"]

BENCHMARK_FILE = "benchmark.json"


def benchmark(section: Benchmark, policy: Policy, *, seed: int, output: Path, tell: Facts) -> dict[str, Any]:
    """Time ``predict_chunks`` for one observation and for a batch of eight; write and return the figures."""
    generator = np.random.default_rng(seed)
    key = next(iter(policy.statistics), None)
    rows = []
    for size in (1, 8):
        observations = [_observation(policy.contract, generator) for _ in range(size)]
        times = _times(section, lambda batch=observations: policy.predict_chunks(batch, unnorm_key=key))  # type: ignore[misc]
        p50, p95 = (float(np.quantile(times, q)) for q in (0.5, 0.95))
        rows.append(
            {
                "name": f"predict_chunks, {size} observation(s)",
                "p50_ms": p50 * 1e3,
                "p95_ms": p95 * 1e3,
                "actions_per_second": size * policy.contract.chunk / p50,
            }
        )
        tell.metrics_logged(stage="benchmark", step=size, values={"p50_ms": p50 * 1e3, "p95_ms": p95 * 1e3})
    figures = {
        "rows": rows,
        "settings": {
            **section.model_dump(),
            "threads": torch.get_num_threads(),
            "device": str(next(policy.module.parameters()).device),
            "dtype": str(next(policy.module.parameters()).dtype),
        },
        "machine": f"{platform.machine()}, {platform.system()}, torch {torch.__version__}",
        "date": date.today().isoformat(),
    }
    atomic_write_text(output / BENCHMARK_FILE, json.dumps(figures, indent=1))
    return figures


def _times(section: Benchmark, call: Callable[[], object]) -> list[float]:
    for _ in range(section.warmup):
        call()
    times = []
    for _ in range(section.repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _observation(contract: Contract, generator: np.random.Generator) -> Observation:
    """Return noise in the shape that the contract asks for; the time does not depend on what is seen."""
    images = {
        name: generator.integers(
            0,
            256,
            (contract.robot.cameras[name].height, contract.robot.cameras[name].width, 3),
            dtype=np.uint8,
        )
        for name in contract.cameras
    }
    state = (
        generator.normal(size=len(contract.robot.state)).astype(np.float32) if contract.uses_state else None
    )
    return Observation(images=images, instruction="pick up the red cube", state=state)
