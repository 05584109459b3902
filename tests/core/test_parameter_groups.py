"""Which parameters are updated together: by pattern, and decaying or not."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.parameter_groups import parameter_groups, set_learning_rate
from openvla_toolkit.core.sections import Optimizer


def network() -> nn.ModuleDict:
    return nn.ModuleDict(
        {"eye": nn.Linear(4, 6), "norm": nn.LayerNorm(6), "hand": nn.Linear(6, 2), "spare": nn.Linear(2, 2)}
    )


def told(module: nn.Module, **settings: Any) -> list[tuple[list[str], float, float]]:
    """Return names, learning rate and weight decay of every group."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module, Optimizer.model_validate({"lr": 0.1, **settings}))
    return [([names[one] for one in group["params"]], group["lr"], group["weight_decay"]) for group in groups]


def test_matrices_decay_and_vectors_do_not() -> None:
    module = network()
    module["spare"].requires_grad_(False)
    module["eye"].bias.requires_grad_(False)
    decaying, plain = told(module, weight_decay=0.3)
    assert decaying == (["eye.weight", "hand.weight"], 0.1, 0.3)
    assert plain == (["norm.weight", "norm.bias", "hand.bias"], 0.1, 0.0)


def test_the_first_pattern_that_fits_counts_and_the_rest_is_the_optimizers() -> None:
    groups = [
        {"match": "eye.*", "lr": 0.01, "weight_decay": 0.5},
        {"match": "*.weight", "lr": 0.2},
        {"match": "hand.*", "weight_decay": 0.7},
    ]
    assert told(network(), weight_decay=0.3, groups=groups) == [
        (["eye.weight"], 0.01, 0.5),
        (["eye.bias"], 0.01, 0.0),
        (["hand.weight", "spare.weight"], 0.2, 0.3),
        (["norm.weight"], 0.2, 0.0),
        (["hand.bias"], 0.1, 0.0),
        (["norm.bias", "spare.bias"], 0.1, 0.0),
    ]


def test_a_schedule_moves_every_group_in_proportion() -> None:
    optimizer = Optimizer.model_validate({"lr": 0.1, "groups": [{"match": "eye.*", "lr": 0.01}]})
    groups = parameter_groups(network(), optimizer)
    set_learning_rate(groups, 0.05)
    assert [group["lr"] for group in groups] == pytest.approx([0.005, 0.005, 0.05, 0.05])


def test_nothing_is_trained() -> None:
    assert parameter_groups(network().requires_grad_(False), Optimizer(lr=0.1)) == []


@pytest.mark.parametrize("groups", [[{"match": "eyes.*"}], [{"match": "*"}, {"match": "eye.*"}]])
def test_a_pattern_that_gets_nothing_is_named(groups: list[dict[str, str]]) -> None:
    with pytest.raises(UserError, match=r"groups: 'eyes?\.\*' fits no parameter .* those of eye\.weight"):
        told(network(), groups=groups)


def test_a_group_of_what_is_frozen_gets_nothing() -> None:
    module = network()
    module["eye"].requires_grad_(False)
    with pytest.raises(UserError, match="Trained are those of norm"):
        told(module, groups=[{"match": "eye.*"}])
