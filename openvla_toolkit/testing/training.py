"""Checks of engines."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openvla_toolkit.core.errors import NotFinite, TrainingError
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.engine import Engine, EngineConfig, StepReport
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_engine"]

Batch = Mapping[str, NDArray[np.generic]]
_TOLERANCE = {"fp32": 1e-5, "bf16": 3e-2}


def check_engine(config: EngineConfig) -> None:
    """Check an engine on a small network, in this process alone.

    Checked: the settings; that a step lowers the loss and reports it, the norm before clipping, and metrics
    as means over the whole step; that unequal micro-batches give the step of one batch; that clipping
    changes the step and not the norm that is told; that groups of parameters learn at their share of the
    rate; where one process is all there is, that a parameter which a step has not reached goes on by its
    momentum (``engines.building.fill_gradients``); that a step with NaN is a NotFinite that changes nothing;
    that ``save`` and ``load`` continue exactly, also with a running mean of the weights where it keeps
    one; that ``full_weights`` are the module's, all or those named, on the CPU.
    """
    check_settings(config, EngineConfig)
    tolerance = _TOLERANCE[config.precision]
    batch = _batch(8)
    engine, module = _prepared(config)
    first = _step(engine, [batch])
    _check_report(config, first)
    later = [_step(engine, [batch]) for _ in range(5)][-1]
    expect(
        later.loss < first.loss, config, expected=f"steps to lower the loss {first.loss}", found=later.loss
    )
    _check_weights(config, engine, module)
    split, _ = _prepared(config)
    parts = _step(split, [_part(batch, 0, 5), _part(batch, 5, 8)])
    for what, one, other in (("loss", first.loss, parts.loss), ("norm", first.grad_norm, parts.grad_norm)):
        near = abs(one - other) <= tolerance * max(1.0, abs(one))
        expect(
            near, config, expected=f"the {what} {one} of one batch from unequal micro-batches", found=other
        )
    whole, _ = _prepared(config)
    _step(whole, [batch])
    distance = _distance(whole.full_weights(), split.full_weights())
    expect(
        distance <= tolerance,
        config,
        expected="micro-batches to give the weights of one batch",
        found=f"{distance} off",
    )
    clipped, _ = _prepared(config)
    norm = _step(clipped, [batch], clip_norm=first.grad_norm / 10).grad_norm
    expect(
        math.isclose(norm, first.grad_norm, rel_tol=1e-5),
        config,
        expected=f"the norm before clipping, {first.grad_norm}",
        found=norm,
    )
    _check_groups(config, batch)
    if not config.distributed:  # ranks go through all of a module together
        _check_left_out(config, batch)
    _check_refusal(config, batch)
    _check_resuming(config, batch)
    if config.averages:
        _check_averages(config, batch)


def _check_report(config: EngineConfig, report: StepReport) -> None:
    finite = math.isfinite(report.loss) and math.isfinite(report.grad_norm) and report.grad_norm > 0
    expect(finite, config, expected="a finite loss and a positive norm", found=report)
    expect(
        "error" in report.metrics,
        config,
        expected="the metric 'error' of the loss report",
        found=dict(report.metrics),
    )
    near = np.isclose(report.metrics["error"], report.loss, rtol=1e-2)
    expect(
        bool(near),
        config,
        expected=f"metrics as means over the step, {report.loss}",
        found=report.metrics["error"],
    )


def _check_weights(config: EngineConfig, engine: Engine, module: nn.Module) -> None:
    weights, names = engine.full_weights(), list(module.state_dict())
    expect(sorted(weights) == sorted(names), config, expected=f"full_weights of {names}", found=list(weights))
    some = list(engine.full_weights(names[-1:]))
    expect(some == names[-1:], config, expected=f"full_weights of {names[-1:]} alone", found=some)
    elsewhere = [name for name, value in weights.items() if value.device.type != "cpu"]
    expect(not elsewhere, config, expected="full_weights on the CPU", found=f"{elsewhere} elsewhere")


def _check_groups(config: EngineConfig, batch: Batch) -> None:
    """Check that a group whose rate is next to nothing stays where it is, and that the rest learns."""
    slow, _ = _prepared(config, groups=({"match": "0.*", "lr": 1e-12, "weight_decay": 0.0},))
    before = _copied(slow.full_weights())
    _step(slow, [batch])
    after = slow.full_weights()
    still, rest = (
        _distance({name: before[name] for name in before if name.startswith("0.") == held}, after)
        for held in (True, False)
    )
    expect(
        still < 1e-6 < rest,
        config,
        expected="parameters of train.optimizer.groups to learn at their share of the rate",
        found=f"changes of {still} in the slow group, {rest} in the rest",
    )


def _check_left_out(config: EngineConfig, batch: Batch) -> None:
    """Check that AdamW does not leave out what has no gradient: among ranks it would have zeros."""
    engine, _ = _prepared(config)
    _step(engine, [batch])
    before = _copied(engine.full_weights(["0.weight"]))

    def loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        last = next(part for name, part in module.named_modules() if name.endswith("3"))
        return _loss(last, {**batch, "x": batch["x"].new_ones(len(batch["x"]), 8)})

    engine.step(iter([batch]), loss, lr=1e-2, clip_norm=None)
    moved = _distance(before, engine.full_weights(["0.weight"]))
    expect(
        moved > 0,
        config,
        expected="a parameter without a gradient to go on by its momentum, as if it had zeros",
        found="weights that stay where they are",
    )


def _check_refusal(config: EngineConfig, batch: Batch) -> None:
    engine, _ = _prepared(config)
    _step(engine, [batch])
    before = _copied(engine.full_weights())
    bad = {**batch, "x": np.full_like(batch["x"], np.nan)}
    try:
        report: object = _step(engine, [batch, bad])
        refused = False
    except NotFinite:
        report, refused = None, True
    except TrainingError as error:
        report, refused = repr(error), False
    expect(refused, config, expected="a NotFinite for a step with NaN", found=report)
    moved = _distance(before, engine.full_weights())
    expect(moved == 0, config, expected="weights untouched by a step with NaN", found=f"a change of {moved}")
    fresh, _ = _prepared(config)
    expected = [_step(fresh, [batch]), _step(fresh, [batch])][-1]
    found = _step(engine, [batch])
    same = found == expected and _distance(fresh.full_weights(), engine.full_weights()) == 0
    expect(same, config, expected=f"the step after NaN as if it had not been, {expected}", found=found)


def _check_resuming(config: EngineConfig, batch: Batch) -> None:
    engine, _ = _prepared(config)
    for _ in range(3):
        _step(engine, [batch])
    weights, write = engine.full_weights(), engine.save()
    expected = [_step(engine, [batch]) for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))  # copies were taken before those steps
        other, _ = _prepared(config, weights)
        other.load(Path(folder))
        found = [_step(other, [batch]) for _ in range(3)]
    expect(
        found == expected, config, expected=f"a resumed engine to take the same steps {expected}", found=found
    )
    distance = _distance(engine.full_weights(), other.full_weights())
    expect(
        distance == 0, config, expected="a resumed engine to reach the same weights", found=f"{distance} off"
    )


def _check_averages(config: EngineConfig, batch: Batch) -> None:
    """Check that the running mean is what is written, and goes on from where it was beside the weights.

    The state is saved between two updates of the mean, which must not forget the step it has counted.
    """
    settings: dict[str, Any] = {"ema": {"decay": 0.5, "every": 2, "use": True}}
    plain, _ = _prepared(config)
    engine, _ = _prepared(config, **settings)
    mean = _copied(plain.full_weights())
    for step in range(1, 5):
        _step(plain, [batch])
        _step(engine, [batch])
        if step == 3:
            weights, write = engine.full_weights(), engine.save()
        if step % 2 == 0:
            mean = {name: torch.lerp(mean[name], value, 0.5) for name, value in plain.full_weights().items()}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        resumed, _ = _prepared(config, weights, **settings)
        resumed.load(Path(folder))
    _step(resumed, [batch])
    for what, one in (("", engine), (", resumed,", resumed)):
        off = _distance(mean, one.full_weights())
        expect(off <= 1e-6, config, expected=f"full_weights{what} to be the running mean", found=f"{off} off")


def _prepared(
    config: EngineConfig, weights: Mapping[str, Tensor] | None = None, **settings: Any
) -> tuple[Engine, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    if weights is not None:
        module.load_state_dict(dict(weights))
    engine = config.build()
    engine.prepare(module, Optimizer.model_validate({"lr": 1e-2, "weight_decay": 0.1, **settings}))
    return engine, module


def _step(engine: Engine, micro_batches: Sequence[Batch], *, clip_norm: float | None = None) -> StepReport:
    return engine.step(iter(micro_batches), _loss, lr=1e-2, clip_norm=clip_norm)


def _loss(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
    error = (module(batch["x"]).float() - batch["y"]).square()
    count = torch.tensor(error.numel())
    return LossReport(total=error.sum(), count=count, metrics={"error": (error.detach().sum(), count)})


def _batch(size: int) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.normal(size=(size, 6)).astype(np.float32),
        "y": generator.normal(size=(size, 3)).astype(np.float32),
    }


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return {key: value[start:stop] for key, value in batch.items()}


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def _distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
