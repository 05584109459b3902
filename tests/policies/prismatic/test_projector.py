"""The projector's layers and how they begin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.policies.prismatic.projector import Projector, ProjectorName


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(("name", "layers"), [("linear", 1), ("gelu-mlp", 2), ("fused-gelu-mlp", 3)])
def test_fresh_weights_have_the_spread_that_is_asked_for(name: ProjectorName, layers: int) -> None:
    torch.manual_seed(0)
    found = linears(Projector(name, vision_dim=64, text_dim=96, init_std=0.3))
    assert len(found) == layers
    for layer in found:
        assert layer.weight.std().item() == pytest.approx(0.3, rel=0.05)
        assert not layer.bias.any()


def test_without_it_torch_chooses() -> None:
    torch.manual_seed(0)
    (layer,) = linears(Projector("linear", vision_dim=64, text_dim=96))
    assert layer.weight.abs().max().item() <= 64**-0.5
    assert layer.bias.any()


def test_the_policys_setting_reaches_it(make_policy: Callable[..., OpenVLAPolicy]) -> None:
    policy = make_policy(projector_std=0.7)
    weights = torch.cat([layer.weight.flatten() for layer in linears(policy.module.projector)])  # type: ignore[arg-type]
    assert weights.std().item() == pytest.approx(0.7, rel=0.05)
