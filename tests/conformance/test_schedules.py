"""Learning rates at every step, also past the end, and which parameters the optimizer decays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from openvla_toolkit.core.parameter_groups import parameter_groups
from openvla_toolkit.core.sections import Optimizer, Train
from openvla_toolkit.stages.training.schedule import learning_rate, steps_of
from tests.conformance import kit
from tests.conformance.test_freezing import network, ours, record
from tests.conformance.test_freezing import stages as recorded_stages

RUNS: list[dict[str, Any]] = kit.recorded("training/lr_schedules.json") or []
NAMES = {"constant": "constant", "linear-warmup+cosine-decay": "cosine"}
VECTORS = ("bias", "norm.weight", "ln.weight")
"""How names of parameters with one dimension end in the kit's toy model."""


def training(run: dict[str, Any]) -> Train:
    """Return the settings that the original's are; its constant schedule never warms up."""
    name = NAMES[run["lr_scheduler_type"]]
    warmup = (run["warmup_ratio"] or 0) if name == "cosine" else 0
    end = {"steps": run["max_steps"]} if run["max_steps"] else {"epochs": run["epochs"]}
    settings: dict[str, Any] = {
        "optimizer": {"lr": run["learning_rate"], "weight_decay": run["weight_decay"]},
        "schedule": {"name": name, "warmup": warmup},
        "batch": {"total": run["global_batch_size"]},
    }
    return Train.model_validate({**settings, **end})


def toy(run: dict[str, Any]) -> nn.Module:
    """Return a module with the parameters of the kit's toy model."""
    module = nn.Module()
    for name in [name for group in run["groups"] for name in group["params"]]:
        owner = module
        *path, leaf = name.split(".")
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        shape = (3,) if name.endswith(VECTORS) else (3, 3)
        owner.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))
    return module


@pytest.mark.parametrize("run", RUNS)
def test_rates(run: dict[str, Any]) -> None:
    section = training(run)
    steps = steps_of(section, run["n_train_examples"])
    assert steps == run["num_training_steps"]
    used = [
        learning_rate(step, peak=section.optimizer.lr, steps=steps, schedule=section.schedule)
        for step in range(len(run["lr_used_at_step"]) + 1)
    ]
    assert len(used) > steps
    assert used[:-1] == pytest.approx(run["lr_used_at_step"], rel=1e-12, abs=1e-30)
    # The original tells the rate after the step: the next one's.
    assert used[1:] == pytest.approx(run["lr_logged_after_step"], rel=1e-12, abs=1e-30)


@pytest.mark.parametrize("run", RUNS)
def test_groups(run: dict[str, Any]) -> None:
    module, settings = toy(run), training(run).optimizer
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = [
        {"weight_decay": group["weight_decay"], "params": {names[one] for one in group["params"]}}
        for group in parameter_groups(module, settings)
    ]
    stated = [{**group, "params": set(group["params"])} for group in run["groups"]]
    assert found == stated
    defaults = run["adamw_defaults"]
    assert (list(settings.betas), settings.eps) == (defaults["betas"], defaults["eps"])


@pytest.mark.parametrize(("model", "stage"), recorded_stages())
def test_what_a_stage_does_not_decay(model: str, stage: str) -> None:
    """By the rule alone: of what the original trains, vectors and biases."""
    expected = record(model)["stages"][stage]
    if expected == "ValueError":
        return
    trained = {ours(name) for name in expected["trainable"]}
    module = network(model)
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trained)
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module, Optimizer(lr=1.0, weight_decay=0.5))
    plain = {names[one] for group in groups if group["weight_decay"] == 0 for one in group["params"]}
    for parameter, value in before.items():
        parameter.requires_grad_(value)
    assert plain == {ours(name) for name in expected["no_decay"]}
