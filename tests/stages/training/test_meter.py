"""Means between two lines of metrics, and what is counted."""

from __future__ import annotations

from openvla_toolkit.interfaces.engine import StepReport
from openvla_toolkit.stages.training.meter import Meter


def fed(meter: Meter, *losses: float) -> Meter:
    for loss in losses:
        meter.add(StepReport(loss=loss, grad_norm=1.0, metrics={}), lr=0.1, samples=2, seconds=0.5)
    return meter


def test_steps_are_averaged_and_replaced_samples_summed() -> None:
    meter = fed(Meter(), 1.0, 3.0)
    for counts in ({"a": 2}, {"a": 1, "b": 5}):
        meter.skip(counts)
    figures = meter.flush()
    assert (figures["loss"], figures["skipped/a"], figures["skipped/b"]) == (2.0, 3, 5)
    assert not [name for name in fed(meter, 1.0).flush() if name.startswith("skipped/")]


def test_a_window_without_a_step_tells_no_means() -> None:
    meter = fed(Meter(), 1.0)
    assert meter.flush()["loss"] == 1.0
    meter.skip({"a": 2})
    assert meter.flush() == {"skipped/a": 2}
    assert meter.flush() == {}


def test_counts_survive_a_checkpoint() -> None:
    first, second = fed(Meter(), 1.0), Meter()
    first.skip({"a": 2})
    second.restore(first.state())
    second.skip({"a": 1})
    assert fed(second, 2.0).flush()["skipped/a"] == 3
