"""What a state says of parameters without a step, of running means, and of other numbers of ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openvla_toolkit.checkpoints.training_state import (
    averaged_steps,
    host_copy,
    load_random,
    save_state,
    stored_moments,
)
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig
from openvla_toolkit.engines.torch_engine import TorchEngine
from openvla_toolkit.interfaces.action_head import LossReport

CPU = torch.device("cpu")
RECORD = "parameters.json"
BATCH = {"x": np.ones((4, 3), dtype=np.float32)}


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))


def prepared(trained: nn.Module, **optimizer: Any) -> TorchEngine:
    engine = SingleConfig(device="cpu").build()
    engine.prepare(trained, Optimizer.model_validate({"lr": 0.1, **optimizer}))
    return engine


def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
    return LossReport(total=module(batch["x"]).square().sum(), count=torch.tensor(8), metrics={})


def take(engine: TorchEngine, steps: int = 1) -> None:
    for _ in range(steps):
        engine.step([BATCH], loss, lr=0.1, clip_norm=None)


def saved(folder: Path, names: Sequence[str], *, averaged: bool = False) -> nn.Module:
    """Write the state of one step of which only the named parameters have moments; return its weights."""
    before = module()
    engine = prepared(before, ema={} if averaged else None)
    take(engine)
    moments = {
        f"{key}/{name}": host_copy(value)
        for name, parameter in before.named_parameters()
        if name in names
        for key, value in engine._optimizer.state[parameter].items()
    }
    if engine._averages is not None:
        means = engine._averages.moments()["ema"]
        moments |= {f"ema/{name}": host_copy(value) for name, value in means.items()}
    trained = dict(before.named_parameters())
    save_state(moments, CPU, trained=trained, averaged=int(averaged))(folder)
    return before


SOME = ("2.weight", "2.bias")


def test_a_parameter_without_a_step_begins_with_its_first(tmp_path: Path) -> None:
    before = saved(tmp_path, SOME)
    engine = prepared(before)
    engine.load(tmp_path)
    take(engine)
    taken = {name: int(engine._optimizer.state[one]["step"]) for name, one in before.named_parameters()}
    assert taken == {"0.weight": 1, "0.bias": 1, "2.weight": 2, "2.bias": 2}


def test_the_running_mean_counts_its_steps_by_itself(tmp_path: Path) -> None:
    engine = prepared(saved(tmp_path, SOME, averaged=True), ema={"every": 2, "decay": 0.5})
    engine.load(tmp_path)
    assert engine._averages is not None
    assert engine._averages.steps == averaged_steps(tmp_path) == 1
    before = engine._averages.moments()["ema"]["0.weight"].clone()
    take(engine)  # the second step
    assert not engine._averages.moments()["ema"]["0.weight"].equal(before)


def test_states_from_before_the_record_load_as_they_did(tmp_path: Path) -> None:
    ema = {"every": 2, "decay": 0.5}
    straight = prepared(module(), ema=ema)
    take(straight, 3)
    weights = {name: value.clone() for name, value in straight.full_weights().items()}
    straight.save()(tmp_path)
    (tmp_path / RECORD).unlink()
    again = module()
    again.load_state_dict(weights)
    resumed = prepared(again, ema=ema)
    resumed.load(tmp_path)
    take(straight)
    take(resumed)
    assert straight._averages is not None
    assert resumed._averages is not None
    assert resumed._averages.steps == 4
    for moment, values in straight._averages.moments().items():
        assert all(value.equal(resumed._averages.moments()[moment][name]) for name, value in values.items())


def test_an_older_state_without_all_of_them_is_refused(tmp_path: Path) -> None:
    before = saved(tmp_path, SOME)
    (tmp_path / RECORD).unlink()
    complaint = r"holds nothing of '0\.weight'.*or one without a step of that parameter"
    with pytest.raises(CheckpointError, match=complaint):
        prepared(before).load(tmp_path)


def test_a_state_before_the_first_step_names_what_it_trains(tmp_path: Path) -> None:
    save_state({}, CPU, trained=["weight"])(tmp_path)
    assert stored_moments(tmp_path, {"weight": torch.Size([2])}) == {}
    with pytest.raises(CheckpointError, match=r"where 'bias' was not trained, and this policy trains it"):
        stored_moments(tmp_path, {"weight": torch.Size([2]), "bias": torch.Size([2])})
    with pytest.raises(CheckpointError, match=r"where 'weight' was trained, and this policy does not train"):
        stored_moments(tmp_path, {})


@pytest.mark.parametrize("text", ["", "[]", '{"trained": ["weight"]}', '{"trained": 1, "averaged_steps": 2}'])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    saved(tmp_path, SOME)
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{RECORD} cannot be read.*Go on from another checkpoint"):
        prepared(module()).load(tmp_path)


def test_a_mean_that_was_not_kept_is_missed(tmp_path: Path) -> None:
    before = saved(tmp_path, SOME)
    complaint = r"holds no running mean of the weights.*train\.optimizer\.ema=null"
    with pytest.raises(CheckpointError, match=complaint):
        prepared(before, ema={}).load(tmp_path)


def test_a_mean_that_is_not_kept_any_more_is_not_dropped_in_silence(tmp_path: Path) -> None:
    before = saved(tmp_path, SOME, averaged=True)
    with pytest.raises(
        CheckpointError, match=r"this training keeps none: give train\.optimizer\.ema as it was"
    ):
        prepared(before).load(tmp_path)


@pytest.mark.parametrize("use", [True, False])
def test_what_checkpoints_hold_may_change(use: bool, tmp_path: Path) -> None:
    """The training goes on from its weights, whether the checkpoint held them or their mean."""
    ema = {"decay": 0.5, "use": use}
    first = module()
    engine = prepared(first, ema=ema)
    take(engine, 2)
    trained = {name: value.clone() for name, value in first.state_dict().items()}
    weights = {name: value.clone() for name, value in engine.full_weights().items()}
    assert weights["0.weight"].equal(trained["0.weight"]) != use
    engine.save()(tmp_path)
    other = module()
    other.load_state_dict(weights)
    prepared(other, ema={**ema, "use": not use}).load(tmp_path)
    assert all(value.equal(trained[name]) for name, value in other.state_dict().items())


def test_by_more_ranks_each_has_random_numbers_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_state({}, CPU, trained=[])(tmp_path)
        monkeypatch.setenv("WORLD_SIZE", "2")
        drawn = []
        for rank in ("0", "1", "0", "1"):
            monkeypatch.setenv("RANK", rank)
            torch.manual_seed(99)
            load_random(tmp_path, CPU)
            drawn.append(torch.rand(4).tolist())
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_the_record_is_plain(tmp_path: Path) -> None:
    saved(tmp_path, SOME, averaged=True)
    names = [name for name, _ in module().named_parameters()]
    assert json.loads((tmp_path / RECORD).read_text()) == {"trained": names, "averaged_steps": 1}
