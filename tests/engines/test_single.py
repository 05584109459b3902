"""The single engine, beyond its contract check: groups, clipping, what is saved, devices, bf16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from openvla_toolkit.core.errors import CheckpointError, StorageError, TrainingError, UserError
from openvla_toolkit.core.parameter_groups import parameter_groups
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig
from openvla_toolkit.engines.torch_engine import TorchEngine
from openvla_toolkit.interfaces.action_head import LossReport

Arrays = Mapping[str, np.ndarray]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Dropout(0.5), nn.Linear(6, 2))


def prepared(module: nn.Module, *, precision: str = "fp32", weight_decay: float = 0.0) -> TorchEngine:
    engine = SingleConfig.model_validate({"device": "cpu", "precision": precision}).build()
    engine.prepare(module, Optimizer(lr=1e-2, weight_decay=weight_decay))
    return engine


def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
    error = (module(batch["x"]).float() - batch["y"]).square().sum(1) * batch["weight"]
    count = batch["weight"].sum()
    return LossReport(total=error.sum(), count=count, metrics={"share": (count, torch.tensor(len(error)))})


def data(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "x": generator.normal(size=(size, 4)).astype(np.float32),
        "y": generator.normal(size=(size, 2)).astype(np.float32),
        "weight": generator.integers(0, 2, size).astype(np.float32),
    }


def cut(batch: Arrays, bounds: Sequence[int]) -> list[Arrays]:
    return [{key: value[a:b] for key, value in batch.items()} for a, b in pairwise(bounds)]


@given(cuts=st.sets(st.integers(1, 11), max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_accumulation_equals_one_batch(cuts: set[int], seed: int) -> None:
    """Also where micro-batches differ in size and in how much of them counts."""
    batch = data(12, seed) | {"weight": np.array([1, 0] * 6, dtype=np.float32)}
    one, many = network().eval(), network().eval()
    engines = prepared(one), prepared(many)
    for module in (one, many):
        module.eval()
    whole = engines[0].step([batch], loss, lr=0.1, clip_norm=1.0)
    parts = engines[1].step(cut(batch, [0, *sorted(cuts), 12]), loss, lr=0.1, clip_norm=1.0)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    assert parts.metrics == pytest.approx(whole.metrics)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(many.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_a_step_is_adamws() -> None:
    """The very numbers of a hand-written loop."""
    module, reference = network(), network()
    engine, batch = prepared(module, weight_decay=0.1), data(8)
    groups = parameter_groups(reference, Optimizer(lr=1e-2, weight_decay=0.1))
    optimizer = torch.optim.AdamW(groups, fused=True)
    module.eval()
    reference.eval()
    for step in range(4):
        engine.step([batch], loss, lr=1e-2 / (step + 1), clip_norm=0.5)
        report = loss(reference, {key: torch.from_numpy(value) for key, value in batch.items()})
        (report.total / report.count).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        optimizer.step()
        optimizer.zero_grad()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    module = network()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    engine = prepared(module, weight_decay=0.5)
    engine.step([data(8)], loss, lr=0.1, clip_norm=None)
    engine.save()(tmp_path)
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(module[4].weight, network()[4].weight)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no parameter of the policy requires gradients"):
        prepared(network().requires_grad_(False))


def test_nothing_to_learn_from_is_an_error_that_changes_nothing() -> None:
    module = network()
    engine, batch = prepared(module), data(4)
    with pytest.raises(TrainingError, match="every label is masked"):
        engine.step([batch | {"weight": np.zeros(4, dtype=np.float32)}], loss, lr=0.1, clip_norm=1.0)
    for name, value in network().state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


def test_a_step_that_is_not_finite_says_what_to_do() -> None:
    batch = data(4)
    with pytest.raises(TrainingError, match=r"the loss is nan; lower train\.optimizer\.lr"):
        prepared(network()).step([batch | {"x": batch["x"] * np.inf}], loss, lr=0.1, clip_norm=1.0)


def test_dropout_goes_on_where_it_was(tmp_path: Path) -> None:
    """The random state is part of what is saved."""
    module, batch = network(), data(8)
    engine = prepared(module)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for _ in range(3):
            engine.step([batch], loss, lr=0.1, clip_norm=1.0)
        engine.save()(tmp_path)
        weights = {name: value.clone() for name, value in engine.full_weights().items()}
        expected = [engine.step([batch], loss, lr=0.1, clip_norm=1.0) for _ in range(3)]
        other = network()
        other.load_state_dict(weights)
        again = prepared(other)
        torch.manual_seed(99)
        again.load(tmp_path)
        assert [again.step([batch], loss, lr=0.1, clip_norm=1.0) for _ in range(3)] == expected


def test_bf16_computes_in_bf16_and_keeps_fp32(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    def watched(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        seen.append(module(batch["x"]).dtype)
        return loss(module, batch)

    module = network()
    engine = prepared(module, precision="bf16")
    engine.step([data(4)], watched, lr=0.1, clip_norm=1.0)
    assert seen == [torch.bfloat16]
    assert {value.dtype for value in engine.full_weights().values()} == {torch.float32}


def test_state_of_other_parameters_is_refused(tmp_path: Path) -> None:
    engine = prepared(network())
    engine.step([data(4)], loss, lr=0.1, clip_norm=1.0)
    engine.save()(tmp_path)
    with pytest.raises(
        CheckpointError, match="this policy does not train it: it is a checkpoint of other settings"
    ):
        prepared(nn.Linear(3, 2)).load(tmp_path)
    wider = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.LayerNorm(7), nn.Dropout(), nn.Linear(7, 2))
    with pytest.raises(CheckpointError, match=r"this policy gives it shape \[7"):
        prepared(wider).load(tmp_path)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "random-00000.safetensors"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.95])
def test_a_damaged_state_is_named(name: str, keep: float, tmp_path: Path) -> None:
    engine = prepared(network())
    engine.step([data(4)], loss, lr=0.1, clip_norm=1.0)
    engine.save()(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cannot be read: .*Go on from another checkpoint"):
        prepared(network()).load(tmp_path)


def test_a_full_disk_is_a_storage_error() -> None:
    engine = prepared(network())
    engine.step([data(4)], loss, lr=0.1, clip_norm=1.0)
    with pytest.raises(StorageError, match=r"no space left|cannot write"):
        engine.save()(Path("/dev/full"))


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' is not usable here"):
        SingleConfig(device=device).build()


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        SingleConfig(device="cpu", threads=1).build()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
