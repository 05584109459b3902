"""Every setting of the engine fsdp reaches torch; four processes in two groups have the losses of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy
from torch.distributed.tensor import DTensor

from openvla_toolkit.core.processes import leave
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import DDPConfig, FSDPConfig, SingleConfig, fsdp
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.testing import run_ranks

ROOT = Path(__file__).parents[2]
GROUPS: Mapping[str, Any] = {"sharding": "hybrid", "shard_size": 2}


class Stack(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.head = nn.Linear(4, 2)

    def shard_units(self) -> list[nn.Module]:
        return list(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return self.head(x)  # type: ignore[no-any-return]


def prepared(config: Any) -> tuple[Any, Stack]:
    module, engine = Stack(), config.build()
    engine.prepare(module, Optimizer(lr=1e-2, weight_decay=0.1))
    return engine, module


def steps(config: Any) -> list[list[float]]:
    """Return loss and norm of three steps over eight samples, of which every rank has its share."""
    engine, _ = prepared(config)
    return [taken(engine) for _ in range(3)]


def taken(engine: Any) -> list[float]:
    def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        error = (module(batch["x"]).float() - 1).square()
        return LossReport(total=error.sum(), count=torch.tensor(error.numel()), metrics={})

    ranks = Ranks.here()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)[ranks.rank :: ranks.world_size]
    report = engine.step([{"x": x}], loss, lr=1e-2, clip_norm=0.1)
    return [report.loss, report.grad_norm]


def main(result: Path) -> None:
    """Be one of four processes; the first one writes what came out."""
    _, module = prepared(FSDPConfig(device="cpu", **GROUPS))
    weight: Any = module.blocks[0].weight
    found = {
        "mesh": list(weight.device_mesh.mesh.shape),
        "placements": [str(placement) for placement in weight.placements],
        "rows": weight.to_local().shape[0],
        "steps": steps(FSDPConfig(device="cpu", **GROUPS)),
    }
    if Ranks.here().is_first:
        result.write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))


@pytest.fixture(autouse=True)
def _parted() -> Any:
    """Leave no process group behind for other tests of this process."""
    yield
    leave()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What four processes make of two groups."""
    result = tmp_path_factory.mktemp("groups") / "result.json"
    run_ranks(["-m", "tests.engines.test_fsdp_settings", str(result)], count=4, folder=ROOT)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_groups_spread_within_and_repeat_between(four: dict[str, Any]) -> None:
    assert four["mesh"] == [2, 2]
    assert four["placements"] == ["R", "S(0)"]
    assert four["rows"] == 2  # of four


def test_groups_have_the_losses_of_one_process(four: dict[str, Any]) -> None:
    for found, wanted in zip(four["steps"], steps(SingleConfig(device="cpu")), strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)


def placed(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return each part of a module that was spread, and how torch was told to."""
    watched = Mock(side_effect=fsdp.fully_shard)
    monkeypatch.setattr(fsdp, "fully_shard", watched)
    prepared(FSDPConfig(device="cpu", **settings))
    return [(call.args[0], call.kwargs) for call in watched.call_args_list]


@pytest.mark.parametrize(("settings", "kept"), [({}, False), ({"reshard_after_forward": False}, True)])
def test_blocks_are_let_go_of_after_the_forward_pass_or_kept(
    settings: dict[str, Any], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    *blocks, (module, rest) = placed(monkeypatch, **settings)
    assert [options["reshard_after_forward"] for _, options in blocks] == [not kept] * 2
    assert rest["reshard_after_forward"] is False
    module(torch.ones(1, 4))
    assert all(isinstance(block, FSDPModule) for block, _ in blocks)
    spread = [isinstance(block.weight, DTensor) for block, _ in blocks]
    assert spread == [not kept] * 2


@pytest.mark.parametrize(
    ("offload", "policy"), [(True, CPUOffloadPolicy(pin_memory=False)), (False, OffloadPolicy())]
)
def test_what_is_offloaded_is_said_of_every_part(
    offload: bool, policy: OffloadPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = placed(monkeypatch, cpu_offload=offload)
    assert [options["offload_policy"] for _, options in parts] == [policy] * 3


@pytest.mark.parametrize(
    ("precision", "policy"),
    [
        ("fp32", MixedPrecisionPolicy()),
        ("bf16", MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)),
    ],
)
def test_sums_of_gradients_are_fp32(
    precision: str, policy: MixedPrecisionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = placed(monkeypatch, precision=precision)
    assert [options["mp_policy"] for _, options in parts] == [policy] * 3


@pytest.mark.parametrize("config", [SingleConfig, DDPConfig, FSDPConfig])
def test_every_engine_compiles_every_block(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def noted(forward: Any) -> Any:
        compiled.append(forward.__self__)
        return forward

    monkeypatch.setattr(torch, "compile", noted)
    for wanted in (False, True):
        _, module = prepared(config(device="cpu", compile=wanted))
        assert compiled == (list(module.blocks) if wanted else [])
        leave()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the compiler looks at every tensor
def test_compiled_blocks_take_the_same_steps() -> None:
    found = steps(FSDPConfig(device="cpu", compile=True))
    leave()
    for ours, wanted in zip(found, steps(SingleConfig(device="cpu")), strict=True):
        assert ours == pytest.approx(wanted, rel=1e-5)
