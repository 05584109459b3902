"""Named mixtures, and the shares and lengths of mixtures of the data sets that lie in the kit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Goals
from openvla_toolkit.mixtures.open_x import Entry, named_mixtures, without_repeats
from openvla_toolkit.pipeline.mixture import epoch_length, shares
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source
from openvla_toolkit.pipeline.samples import EpisodeSource
from tests.conformance import kit
from tests.conformance.data_sets import measured, opened
from tests.conformance.test_trajectories import original_size

RECORDED: dict[str, Any] = kit.recorded("rlds/expected/mixtures.json") or {}
CASES: list[dict[str, Any]] = RECORDED.get("mixtures", [])
NUMBERS = range(len(CASES))


def members(case: dict[str, Any]) -> list[Entry]:
    return without_repeats([Entry(*entry) for entry in case["mixture_spec"]])


def sizes(case: dict[str, Any]) -> list[int]:
    return [measured(member.dataset).num_transitions for member in members(case)]


@pytest.mark.parametrize("name", RECORDED.get("named_mixtures", {}))
def test_what_a_named_mixture_holds(name: str) -> None:
    assert [list(entry) for entry in named_mixtures()[name]] == RECORDED["named_mixtures"][name]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_weight_of_a_name_counts(number: int) -> None:
    found, case = members(CASES[number]), CASES[number]
    assert [member.dataset for member in found] == case["datasets_after_dedup"]
    assert [member.weight for member in found] == case["weights_after_dedup"]
    assert dict(zip(case["datasets_after_dedup"], sizes(case), strict=True)) == case["dataset_sizes"]


@pytest.mark.parametrize("number", NUMBERS)
def test_shares_and_length(number: int) -> None:
    case = CASES[number]
    weights, balance = case["weights_after_dedup"], case["balance_weights"]
    assert shares(weights, sizes(case), balance=balance) == case["sample_weights"]
    assert epoch_length(weights, sizes(case), balance=balance) == case["dataset_length"]


@pytest.mark.parametrize("number", NUMBERS)
def test_draws_follow_the_shares(number: int) -> None:
    """Ours are exact within a block; the original's are binomial, and seen to be of the same shares."""
    case = CASES[number]
    sampler = MixtureSampler(
        [Source(size, share) for size, share in zip(sizes(case), case["sample_weights"], strict=True)], seed=3
    )
    total = sum(case["empirical_counts"].values())
    drawn = np.bincount([sampler.pick(place).source for place in range(sampler.block)])
    for member, share, ours in zip(members(case), case["sample_weights"], drawn, strict=True):
        assert abs(ours - share * sampler.block) <= 1
        counted = case["empirical_counts"].get(member.dataset, 0)
        assert abs(counted - share * total) <= 5 * math.sqrt(total * share * (1 - share)) + 1e-9


OURS = {
    "observation/image_primary": lambda sample: sample.images["primary"],
    "observation/pad_mask": lambda sample: sample.observed,
    "action": lambda sample: sample.actions,
    "task/image_primary": lambda sample: sample.goal["primary"],
}
"""What of the original's samples ours hold as arrays; the first two have a window of one there."""


@pytest.mark.parametrize("number", NUMBERS)
def test_samples_have_the_recorded_shapes(number: int) -> None:
    case = CASES[number]
    dataset, index, robot = opened(members(case)[0].dataset)
    source = EpisodeSource(
        dataset,
        index,
        measured(members(case)[0].dataset),
        robot=robot,
        normalization=Normalization(),
        cameras=("primary",),
        chunk=1,
        history=2,
        goals=Goals(),
        frames=original_size,
    )
    sample = source.sample(0, number=0)
    assert OURS.keys() <= case["first_sample_shapes"].keys() == case["element_spec"].keys()
    for key, of in OURS.items():
        values = of(sample)
        dtype, shape = case["first_sample_shapes"][key]
        assert str(values.dtype) == dtype == case["element_spec"][key][0]
        window = len(shape) == values.ndim and shape[0] == 1 and key.startswith("observation/")
        assert list(values.shape[window:]) == shape[window:]
        specified = case["element_spec"][key][1]
        assert [found in (None, size) for size, found in zip(shape, specified, strict=True)] == [True] * len(
            shape
        )
    assert case["element_spec"]["absolute_action_mask"][1] == [len(robot.action)]
