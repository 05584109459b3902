"""Learning rates: those of transformers, which the original uses, and within bounds for any settings."""

from __future__ import annotations

from itertools import pairwise

import openvla_toolkit.core.torchvision_cpu  # noqa: F401  # lets transformers be imported

# isort: split
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from openvla_toolkit.core.sections import Schedule
from openvla_toolkit.stages.training.schedule import learning_rate

STEPS = 50


def of_transformers(make: object, *, warmup: int, peak: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    whole = {} if make is get_constant_schedule_with_warmup else {"num_training_steps": STEPS}
    scheduler = make(optimizer, num_warmup_steps=warmup, **whole)  # type: ignore[operator]
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0, 1, 7, 50])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("constant", get_constant_schedule_with_warmup),
        ("linear", get_linear_schedule_with_warmup),
        ("cosine", get_cosine_schedule_with_warmup),
    ],
)
def test_schedules_are_those_of_transformers(name: str, make: object, warmup: int) -> None:
    schedule = Schedule.model_validate({"name": name, "warmup": warmup})
    ours = [learning_rate(step, peak=3e-4, steps=STEPS, schedule=schedule) for step in range(STEPS)]
    assert ours == pytest.approx(of_transformers(make, warmup=warmup, peak=3e-4), rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(("share", "steps"), [(0.03, 3), (0.5, 50), (0.009, 0)])
def test_a_warm_up_can_be_a_share_of_the_run(share: float, steps: int) -> None:
    told, counted = (Schedule.model_validate({"name": "cosine", "warmup": value}) for value in (share, steps))
    rates = [
        [learning_rate(step, peak=1.0, steps=100, schedule=schedule) for step in range(100)]
        for schedule in (told, counted)
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize("warmup", [-1, 1.0, 2.5, -0.1])
def test_a_warm_up_is_steps_or_a_share(warmup: float) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate({"warmup": warmup, "name": "cosine"})


def test_warm_up_then_stable_then_decay() -> None:
    schedule = Schedule(name="wsd", warmup=4, decay=5, floor=0.1)
    rates = [learning_rate(step, peak=1.0, steps=20, schedule=schedule) for step in range(20)]
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert rates[4:16] == [1.0] * 12
    assert rates[16:] == pytest.approx([0.82, 0.64, 0.46, 0.28])


SCHEDULES = st.builds(
    lambda name, warmup, decay, floor: Schedule(
        name=name, warmup=warmup, decay=decay if name == "wsd" else None, floor=floor
    ),
    st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    st.integers(0, 200),
    st.integers(1, 200),
    st.floats(0, 1),
)


@given(schedule=SCHEDULES, peak=st.floats(1e-8, 10), steps=st.integers(1, 300), data=st.data())
def test_rates_stay_between_floor_and_peak(
    schedule: Schedule, peak: float, steps: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    rate = learning_rate(step, peak=peak, steps=steps, schedule=schedule)
    low = 0.0 if step < schedule.warmup else peak * schedule.floor
    assert low * (1 - 1e-9) <= rate <= peak * (1 + 1e-9)


@given(schedule=SCHEDULES, steps=st.integers(2, 300))
def test_rates_rise_in_the_warm_up_and_never_after(schedule: Schedule, steps: int) -> None:
    rates = [learning_rate(step, peak=1.0, steps=steps, schedule=schedule) for step in range(steps)]
    top = min(schedule.warmup, steps - 1)
    assert rates[: top + 1] == sorted(rates[: top + 1]) or schedule.name == "wsd"
    after = rates[schedule.warmup :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))
