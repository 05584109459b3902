"""What the engine fsdp refuses, and what it does to a module's blocks."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.distributed.tensor import DTensor

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import DDPConfig, FSDPConfig, SingleConfig

OPTIMIZER = Optimizer(lr=1e-3)


class Blocks(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 1)

    def shard_units(self) -> list[nn.Module]:
        return list(self.blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).relu()
        return self.head(x)  # type: ignore[no-any-return]


def test_every_parameter_is_spread_and_keeps_its_name() -> None:
    module, names = Blocks(), list(Blocks().state_dict())
    FSDPConfig(device="cpu").build().prepare(module, OPTIMIZER)
    assert all(isinstance(parameter, DTensor) for parameter in module.parameters())
    assert list(module.state_dict()) == names
    assert [type(block).__name__ for block in module.blocks] == ["FSDPLinear", "FSDPLinear"]


@pytest.mark.parametrize("config", [SingleConfig, DDPConfig, FSDPConfig])
def test_blocks_are_computed_twice_to_save_memory(config: Any) -> None:
    """What a block computed is dropped, and made again in the backward pass."""
    times = {}
    for twice in (False, True):
        module = Blocks()
        block: Any = module.blocks[0]
        block.forward = watched = Mock(side_effect=block.forward)
        engine = config(device="cpu", activation_checkpointing=twice).build()
        engine.prepare(module, OPTIMIZER)
        engine._called(torch.ones(3, 4)).sum().backward()
        times[twice] = watched.call_count
    assert times == {False: 1, True: 2}


class Params4bit(nn.Parameter):
    """Stands for bitsandbytes' class of this name."""


def test_quantised_weights_are_refused() -> None:
    module = Blocks()
    module.blocks[1].weight = Params4bit(torch.ones(8, 1, dtype=torch.uint8), requires_grad=False)
    complaint = r"'blocks\.1\.weight' is quantised \(Params4bit\).*train\.engine\.name=ddp"
    with pytest.raises(UserError, match=complaint):
        FSDPConfig(device="cpu").build().prepare(module, OPTIMIZER)


@pytest.mark.parametrize(("of", "other"), [("blocks.0", "'blocks.0'"), ("outside", "'blocks.1'")])
def test_a_weight_of_two_places_is_refused(of: str, other: str) -> None:
    """Within a block, or outside of all, weights may be shared: an output layer and embeddings are."""
    module = Blocks()
    module.outside = nn.Linear(4, 4)
    module.outside.bias = module.head.weight
    module.blocks[1].weight = module.get_submodule(of).weight
    with pytest.raises(UserError, match=rf"weight' is a weight of {other} as well.*name=ddp"):
        FSDPConfig(device="cpu").build().prepare(module, OPTIMIZER)


def test_groups_must_divide_the_processes() -> None:
    with pytest.raises(UserError, match=r"1 processes do not divide into groups of 2"):
        FSDPConfig(device="cpu", sharding="hybrid", shard_size=2).build().prepare(Blocks(), OPTIMIZER)


def test_full_sharding_has_no_groups() -> None:
    with pytest.raises(ValidationError, match="'shard_size' is the size of a group of 'sharding: hybrid'"):
        FSDPConfig(shard_size=2)


def test_single_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="'single' is one process, and 2 were started"):
        SingleConfig(device="cpu").build()
