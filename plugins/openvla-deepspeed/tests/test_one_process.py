"""DeepSpeed in one process: parameters that steps leave out, and the device it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openvla_deepspeed import DeepSpeedConfig, zero
from torch import Tensor, nn

from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.core.processes import leave
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig
from openvla_toolkit.engines.building import save_state
from openvla_toolkit.interfaces.action_head import LossReport

OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.1)
REACHED = ((True, True), (False, False), (False, True), (True, True), (False, False))
"""Whether each micro-batch of a step goes both ways."""


class Forked(nn.Module):
    """Two ways to the same place, of which one is not always taken."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.always, self.sometimes, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, both: bool) -> Tensor:  # noqa: FBT001  # as DeepSpeed hands it on
        hidden = self.always(x)
        return self.last(hidden + self.sometimes(x) if both else hidden)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _parted() -> Iterator[None]:
    """Leave no process group behind for other tests of this process."""
    yield
    leave()


def steps(config: Any) -> list[list[float]]:
    """Return loss and norm of each step."""
    engine = config.build()
    engine.prepare(Forked(), OPTIMIZER)
    generator = np.random.default_rng(0)
    shapes = {"x": (4, 6), "y": (4, 3)}
    parts = [
        {key: generator.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
        for _ in range(2)
    ]
    taken = []
    for reached in REACHED:
        ways = iter(reached)

        def loss(module: nn.Module, batch: Mapping[str, Tensor], ways: Iterator[bool] = ways) -> LossReport:
            error = (module(batch["x"], next(ways)) - batch["y"]).square()
            return LossReport(total=error.sum(), count=torch.tensor(error.numel()), metrics={})

        report = engine.step(parts, loss, lr=1e-2, clip_norm=1.0)
        taken.append([report.loss, report.grad_norm])
    return taken


@pytest.mark.parametrize(
    "settings",
    [
        {"stage": 1},
        {"stage": 2},
        {"stage": 2, "offload": "optimizer"},
        {"stage": 3},
        {"stage": 3, "offload": "optimizer"},
        {"stage": 3, "offload": "parameters"},
    ],
    ids=str,
)
def test_a_parameter_that_a_step_leaves_out_has_a_gradient_of_zeros(settings: dict[str, Any]) -> None:
    """And not the last step's, which DeepSpeed's buffers still hold."""
    expected = steps(SingleConfig(device="cpu"))
    for found, wanted in zip(steps(DeepSpeedConfig(device="cpu", **settings)), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("name", "number"), [("cuda:1", "1"), ("cuda", "2"), ("cpu", "0")])
def test_deepspeed_is_told_the_number_of_the_device(
    name: str, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU here: the current device is pretended."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    for variable, value in {
        "DS_ACCELERATOR": "cpu",
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }.items():
        monkeypatch.setenv(variable, value)
    zero._imported(torch.device(name))
    assert os.environ["LOCAL_RANK"] == number


def test_a_parameter_without_a_step_beside_others_has_no_place(tmp_path: Path) -> None:
    """ZeRO counts the steps of all together."""
    module = nn.Linear(3, 2)
    moments = {f"{key}/weight": torch.zeros(2, 3) for key in ("exp_avg", "exp_avg_sq")}
    moments["step/weight"] = torch.tensor(3.0)
    engine = DeepSpeedConfig(device="cpu").build()
    engine.prepare(module, OPTIMIZER)
    save_state(moments, torch.device("cpu"), trained=["weight", "bias"])(tmp_path)
    with pytest.raises(CheckpointError, match=r"3 steps of 'weight' and 0 of 'bias', which the engine"):
        engine.load(tmp_path)
