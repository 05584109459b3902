"""A check that cannot fail is worth nothing: engines and watchers that break one promise each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from openvla_toolkit.core.errors import TrainingError
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.engines import SingleConfig
from openvla_toolkit.engines.single import OneDevice
from openvla_toolkit.engines.torch_engine import TorchEngine
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.interfaces.observer import ObserverConfig
from openvla_toolkit.testing import check_engine, check_evaluator, check_observer

# --- engines


class _MeanOfMeans(TorchEngine):
    def step(self, micro_batches: Iterable[Any], loss: Any, *, lr: float, clip_norm: float | None) -> Any:
        def even(module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
            report = loss(module, batch)
            return report._replace(total=report.total / report.count, count=torch.tensor(1))

        return super().step(micro_batches, even, lr=lr, clip_norm=clip_norm)


class _ToldAfterClipping(TorchEngine):
    def step(self, micro_batches: Iterable[Any], loss: Any, *, lr: float, clip_norm: float | None) -> Any:
        report = super().step(micro_batches, loss, lr=lr, clip_norm=clip_norm)
        return replace(report, grad_norm=min(report.grad_norm, clip_norm or report.grad_norm))


class _SwallowsNaN(TorchEngine):
    def step(self, micro_batches: Iterable[Any], loss: Any, *, lr: float, clip_norm: float | None) -> Any:
        try:
            return super().step(micro_batches, loss, lr=lr, clip_norm=clip_norm)
        except TrainingError:
            return None


class _SpoilsMoments(TorchEngine):
    def step(self, micro_batches: Iterable[Any], loss: Any, *, lr: float, clip_norm: float | None) -> Any:
        try:
            return super().step(micro_batches, loss, lr=lr, clip_norm=clip_norm)
        except TrainingError:
            for state in self._optimizer.state.values():
                state["exp_avg"] += 1
            raise


class _ForgetsMoments(TorchEngine):
    def load(self, folder: Path) -> None:
        """Restore nothing."""


class _CopiesTooLate(TorchEngine):
    def save(self) -> Callable[[Path], None]:
        return lambda folder: super(_CopiesTooLate, self).save()(folder)


class _OneRateForAll(TorchEngine):
    def prepare(self, module: nn.Module, optimizer: Optimizer) -> None:
        super().prepare(module, optimizer.model_copy(update={"groups": ()}))


class _AllWeights(TorchEngine):
    def full_weights(self, names: Collection[str] | None = None) -> Mapping[str, Tensor]:
        return super().full_weights()


ENGINES = [
    *(_OneRateForAll, _AllWeights, _MeanOfMeans, _ToldAfterClipping),
    *(_SwallowsNaN, _SpoilsMoments, _ForgetsMoments, _CopiesTooLate),
]


class AnyEngineConfig(SingleConfig):
    """Builds the engine it is told to."""

    which: int = 0

    def build(self) -> TorchEngine:
        return ENGINES[self.which](self, OneDevice(self))


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        (_OneRateForAll, "parameters of train.optimizer.groups to learn at their share"),
        (_AllWeights, r"full_weights of \['3.bias'\] alone"),
        (_MeanOfMeans, "the loss .* of one batch from unequal micro-batches"),
        (_ToldAfterClipping, "the norm before clipping"),
        (_SwallowsNaN, "a NotFinite for a step with NaN"),
        (_SpoilsMoments, "the step after NaN as if it had not been"),
        (_ForgetsMoments, "a resumed engine to take the same steps"),
        (_CopiesTooLate, "a resumed engine to take the same steps"),
    ],
)
def test_an_engine_that_breaks_a_promise(engine: type[TorchEngine], complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"engine 'single': expected ({complaint})"):
        check_engine(AnyEngineConfig(which=ENGINES.index(engine), device="cpu"))


# --- watchers and evaluators


class _Misspelt:
    @observe
    def metric_logged(self, step: int) -> None: ...


class _Falls:
    @observe
    def run_finished(self, error: BaseException | None) -> None:
        raise RuntimeError(f"cannot bear {error}")


class AnyObserverConfig(ObserverConfig):
    """Builds the observer it is told to."""

    name: Literal["any"] = "any"
    which: str

    def build(self) -> object:
        return {"misspelt": _Misspelt, "falls": _Falls}[self.which]()


@pytest.mark.parametrize(
    ("which", "complaint"),
    [
        ("misspelt", "hooks that are facts, found .*metric_logged"),
        ("falls", "a whole run without an error of its own, found .*cannot bear"),
    ],
)
def test_an_observer_that_breaks_a_promise(which: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"observer 'any': expected .*{complaint}"):
        check_observer(AnyObserverConfig(which=which))


class AnyEvaluatorConfig(EvaluatorConfig):
    """Gives the figures it is told to, without a look at the contract."""

    name: Literal["any"] = "any"
    figures: dict[str, Any] = Field(default={"summary": ["0 %"]})
    total: int = 1
    disturbs: bool = False

    def build(self) -> Any:
        return self

    def evaluate(self, policy: Any, folder: Path, progress: Any) -> Mapping[str, Any]:
        progress(1, {"total": self.total})
        if self.disturbs:
            policy.module.bias.data += 1
        return self.figures


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "a ContractMismatch for a policy with other actions, found figures"),
        ({"figures": {"success": 1.0}}, "'summary', a list of lines"),
        ({"figures": {"summary": "good"}}, "'summary', a list of lines"),
        ({"total": 5}, "progress to reach its total"),
        ({"disturbs": True}, r"the policy to stay as it is, found other \['bias'\]"),
    ],
)
def test_an_evaluator_that_breaks_a_promise(changes: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"evaluator 'any': expected {complaint}"):
        check_evaluator(AnyEvaluatorConfig(**changes))
