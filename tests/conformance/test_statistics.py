"""Statistics of the kit's data sets, over all splits after standardisation, against those of the original.

The original adds up in float32, which shows in the seventh digit: of a deviation, and of the size of the
numbers where they cancel in a mean (NumPy's own float32 mean is what is recorded, to the last bit). It
measures a state of zeros where none is asked for, where we have none.
"""

from __future__ import annotations

from typing import Any

import pytest

from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.pipeline.statistics import compute_statistics
from tests.conformance import kit
from tests.conformance.data_sets import measured, opened

PLACE = "rlds/expected/dataset_statistics.json"
SAVED = "rlds/expected/saved_by_save_dataset_statistics/dataset_statistics.json"
RECORDED: dict[str, dict[str, Any]] = kit.recorded(PLACE) or {}
ENTRIES = [(case, form) for case, forms in RECORDED.items() for form in forms]
EXACT, CLOSE = ("min", "max", "q01", "q99"), ("mean", "std")
WITH_STATE, WITHOUT = "True", "False"


def parts(case: str) -> tuple[str, str]:
    """Return data set and whether the state was read."""
    dataset, _, loaded = case.partition("/load_proprio=")
    assert loaded in (WITH_STATE, WITHOUT)
    return dataset, loaded


def compare(found: Any, expected: dict[str, Any]) -> None:
    for figure in EXACT:
        assert found[figure] == expected[figure], figure
    for figure in CLOSE:
        for ours, theirs, size in zip(found[figure], expected[figure], expected["std"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-7 * size), figure
    if "mask" in expected:
        assert found["mask"] == expected["mask"]
    assert set(expected) - {"mask"} == {*EXACT, *CLOSE}


@pytest.mark.parametrize(("case", "form"), ENTRIES)
def test_actions_and_numbers_of_frames(case: str, form: str) -> None:
    expected = RECORDED[case][form]
    found = measured(parts(case)[0]).to_json()
    compare(found["action"], expected["action"])
    for count in ("num_transitions", "num_trajectories"):
        assert found[count] == expected[count]
    assert set(expected) == {"action", "proprio", "num_transitions", "num_trajectories"}


@pytest.mark.parametrize(("case", "form"), [one for one in ENTRIES if parts(one[0])[1] == WITH_STATE])
def test_states(case: str, form: str) -> None:
    compare(measured(parts(case)[0]).to_json()["proprio"], RECORDED[case][form]["proprio"])


@pytest.mark.parametrize(("case", "form"), [one for one in ENTRIES if parts(one[0])[1] == WITHOUT])
def test_a_state_that_is_not_read_is_zero_there(case: str, form: str) -> None:
    expected = RECORDED[case][form]
    zeros = [0.0] * len(expected["action"]["mean"])
    assert expected["proprio"] == dict.fromkeys((*EXACT, *CLOSE), zeros)


@pytest.mark.parametrize("dataset", kit.recorded(SAVED) or {})
def test_what_a_training_run_saves(dataset: str) -> None:
    """The file beside a checkpoint: read as ours, written as it was, and of our figures."""
    expected = kit.recorded(SAVED)[dataset]
    read = Statistics.from_json(expected, place=dataset).to_json()
    assert read["action"] == expected["action"]
    assert {key: value for key, value in read["proprio"].items() if key != "mask"} == expected["proprio"]
    compare(measured(dataset).to_json()["action"], expected["action"])


def test_what_is_compared_can_differ() -> None:
    """The figures of a part of the episodes are not those of all: the comparison is of something."""
    for dataset in {parts(case)[0] for case in RECORDED}:
        source, index, robot = opened(dataset)
        part = compute_statistics(index, robot)
        assert isinstance(part.action, Moments)
        if len(source) < measured(dataset).num_trajectories:
            with pytest.raises(AssertionError):
                compare(part.to_json()["action"], measured(dataset).to_json()["action"])
