"""The action code agrees with recorded values and keeps its promises everywhere."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openvla_toolkit.action_tokenizers import UniformBinsConfig
from openvla_toolkit.core.errors import UserError

RECORDED = Path(__file__).parent.parent / "golden" / "action_tokenizer"
CASES = json.loads((RECORDED / "cases.json").read_text())["cases"]
CODE = UniformBinsConfig().build(vocabulary_size=32_000)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['index']}")
def test_ids_and_centres_are_as_recorded(case: dict[str, int], dtype: str) -> None:
    config = UniformBinsConfig(bins=case["n_bins"], low=case["min_action"], high=case["max_action"])
    code = config.build(vocabulary_size=case["vocab_size"])
    with np.load(RECORDED / "cases.npz") as arrays:
        recorded = {
            key: arrays[f"case{case['index']}_{dtype}_{key}"] for key in ("actions", "token_ids", "decoded")
        }
        probe = [arrays[f"case{case['index']}_decode_probe_{key}"] for key in ("ids", "actions")]
    assert recorded["actions"].dtype == dtype
    np.testing.assert_array_equal(code.encode(recorded["actions"]), recorded["token_ids"])
    np.testing.assert_array_equal(code.decode(recorded["token_ids"]), recorded["decoded"])
    np.testing.assert_array_equal(code.decode(probe[0]), probe[1])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_reading_back_is_at_most_half_a_bin_off(actions: list[float]) -> None:
    numbers = np.array(actions)
    assert np.abs(CODE.decode(CODE.encode(numbers)) - numbers).max() <= 1 / 255 + 1e-12


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_higher_actions_never_have_higher_ids(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ids = CODE.encode(np.array([low, high]))
    assert ids[0] >= ids[1]
    assert set(ids) <= set(CODE.ids())


@given(st.integers(-1_000_000, 1_000_000))
def test_every_id_reads_as_an_action(number: int) -> None:
    assert -1 < CODE.decode(np.array(number)) < 1


def test_centres_are_written_as_themselves() -> None:
    inner = CODE.ids()[1:]  # the lowest id stands for the upper end alone and reads as the interval below it
    np.testing.assert_array_equal(CODE.encode(CODE.decode(inner)), inner)
    assert CODE.decode(np.array(31_872)) == 0.0
    assert CODE.encode(np.array([-1.0, 0.0, 1.0])).tolist() == [31_999, 31_872, 31_744]


def test_it_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(CODE))
    np.testing.assert_array_equal(copy.encode(np.linspace(-1, 1, 99)), CODE.encode(np.linspace(-1, 1, 99)))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match="256 action bins do not fit into a vocabulary of 100 ids"):
        UniformBinsConfig().build(vocabulary_size=100)
    with pytest.raises(ValidationError, match="must lie below"):
        UniformBinsConfig(low=1, high=1)
