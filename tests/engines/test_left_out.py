"""A trained parameter takes every step, also one that does not reach it, under every engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openvla_toolkit.core.parameter_groups import parameter_groups
from openvla_toolkit.core.processes import leave
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig, torch_engine
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.testing import check_engine

OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.1)
REACHED = (False, True, False, False, True, True)
ENGINES: list[dict[str, Any]] = [
    {"name": "single"},
    {"name": "ddp", "unused_parameters": True},
    {"name": "fsdp"},
]


class Forked(nn.Module):
    """Two ways to the same place, of which one is not always taken."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.always, self.sometimes, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, *, both: bool) -> Tensor:
        hidden = self.always(x)
        return self.last(hidden + self.sometimes(x) if both else hidden)  # type: ignore[no-any-return]


def batch() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {key: generator.normal(size=(8, width)).astype(np.float32) for key, width in (("x", 6), ("y", 3))}


def take(engine: Any, *, both: bool) -> float:
    def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        error = (module(batch["x"], both=both) - batch["y"]).square()
        return LossReport(total=error.sum(), count=torch.tensor(error.numel()), metrics={})

    report = engine.step([batch()], loss, lr=1e-2, clip_norm=1.0)
    return float(report.loss)


def prepared(engine: Mapping[str, Any], module: nn.Module) -> Any:
    made: Any = by_name("engine")({"device": "cpu", **engine})
    built = made.build()
    built.prepare(module, OPTIMIZER)
    return built


def by_hand() -> tuple[list[float], dict[str, Tensor]]:
    """Return losses and weights of AdamW over gradients that are zeros where there are none."""
    module = Forked()
    optimizer = torch.optim.AdamW(parameter_groups(module, OPTIMIZER))
    tensors = {key: torch.from_numpy(value) for key, value in batch().items()}
    losses = []
    for both in REACHED:
        optimizer.zero_grad(set_to_none=False)
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        loss = (module(tensors["x"], both=both) - tensors["y"]).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, module.state_dict()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine["name"])
@pytest.mark.parametrize("saved_after", [1, 3])
def test_a_parameter_goes_on_by_its_momentum_and_decays(
    engine: dict[str, Any], saved_after: int, tmp_path: Path
) -> None:
    """Also where the state is saved after a step that has left it out, its first one or a later one."""
    losses, weights = by_hand()
    try:
        built = prepared(engine, Forked())
        found = [take(built, both=both) for both in REACHED[:saved_after]]
        saved, write = built.full_weights(), built.save()
        write(tmp_path)
        again = Forked()
        again.load_state_dict(dict(saved))
        built = prepared(engine, again)
        built.load(tmp_path)
        found += [take(built, both=both) for both in REACHED[saved_after:]]
        reached = built.full_weights()
    finally:
        leave()
    assert found == pytest.approx(losses, rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(reached[name], value, rtol=1e-4, atol=1e-6)


def test_the_check_of_engines_sees_what_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "fill_gradients", lambda trained: None)
    with pytest.raises(AssertionError, match="to go on by its momentum"):
        check_engine(SingleConfig(device="cpu"))
