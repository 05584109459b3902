"""Metrics by action dimension and by data set, and what is counted about the time they took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.engine import StepReport
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.stages.training.measures import Measured
from openvla_toolkit.stages.training.meter import Meter
from openvla_toolkit.stages.training.throughput import Machine, peak_flops, peak_memory


def reporting(distance: Any, counted: Any) -> Any:
    """Return a loss whose report has this table of distances."""
    sums, counts = torch.tensor(distance, dtype=torch.float32), torch.tensor(counted)

    def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        total = sums.sum()
        return LossReport(total, counts.sum(), {"l1": (total, counts.sum())}, {"l1": (sums, counts)})

    return loss


def told(measured: Measured, members: list[int]) -> dict[str, float]:
    metrics = measured(nn.Identity(), {"dataset": torch.tensor(members)}).metrics
    return {name: float(value / count) for name, (value, count) in metrics.items() if count}


def test_a_table_is_told_by_dimension_and_by_data_set() -> None:
    distance = [
        [1, 2, 3, 4],
        [0, 0, 0, 0],
        [5, 6, 7, 8],
    ]  # two actions of two numbers; the second row has none
    counted = [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    measured = Measured(reporting(distance, counted), datasets=["a", "talk", "b"], dimensions=["x", "y"])
    assert told(measured, [0, 1, 2]) == {"l1": 4.5, "l1.x": 4.0, "l1.y": 5.0, "l1/a": 2.5, "l1/b": 6.5}


def test_a_single_data_set_is_not_told_apart() -> None:
    measured = Measured(reporting([[1.0, 3.0]], [[1, 1]]), datasets=["a"], dimensions=["x", "y"])
    assert told(measured, [0]) == {"l1": 2.0, "l1.x": 1.0, "l1.y": 3.0}


def test_rows_of_conversations_alone_have_no_dimensions() -> None:
    measured = Measured(
        reporting(np.zeros((2, 0)), np.zeros((2, 0))), datasets=["a", "b"], dimensions=["x", "y"]
    )
    assert told(measured, [0, 1]) == {}


def test_the_parts_of_a_run_add_up_to_the_whole(make_recipe: Any, tmp_path: Path) -> None:
    data = [
        {"name": "dots-episodes", "dataset": name, "weight": weight} for name, weight in (("a", 1), ("b", 3))
    ]
    run(make_recipe(data=data))
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in entries if line["stage"] == "train"]
    assert len(lines) == 12
    for line in lines:
        assert np.mean([line[f"l1.{name}"] for name in ("x", "y", "gripper")]) == pytest.approx(line["l1"])
    both = [line for line in lines if "l1/a" in line and "l1/b" in line]
    assert all(
        min(line["l1/a"], line["l1/b"]) <= line["l1"] <= max(line["l1/a"], line["l1/b"]) for line in both
    )
    assert both


def test_rates_and_use_of_the_machine() -> None:
    meter = Meter(Machine(device=torch.device("cpu"), utilisation=0.01))
    batch = {"attention_mask": np.array([[1, 1, 0], [1, 1, 1]]), "dataset": np.array([0, 2])}
    assert list(meter.waiting([batch])) == [batch]
    assert meter.datasets == {0, 2}
    meter.add(StepReport(loss=1.0, grad_norm=1.0, metrics={}), lr=0.1, samples=2, seconds=0.5)
    figures = meter.flush()
    assert figures["samples_per_second"] == 4
    assert figures["tokens_per_second"] == 10
    assert figures["mfu"] == pytest.approx(0.04)
    assert figures["peak_memory_gb"] == pytest.approx(peak_memory(torch.device("cpu")) / 1e9, rel=0.1)
    assert 0 <= figures["data_wait"] < 0.5
    assert "samples_per_second" not in meter.flush()


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA RTX A6000", 155),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX A4000", None),
        ("Intel Xeon", None),
    ],
)
def test_peaks_are_known_by_the_devices_name(name: str, tera: float | None) -> None:
    assert peak_flops(name) == (None if tera is None else tera * 1e12)
