"""Numbers to ids and back, and the text that the original made of the ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openvla_toolkit.action_tokenizers import UniformBinsConfig
from openvla_toolkit.action_tokenizers.uniform_bins import UniformBins
from tests.conformance import kit
from tests.conformance.originals import kit_tokenizer

PLACE = "action_tokenizer/cases.json"
ARRAYS = "action_tokenizer/cases.npz"
KINDS_OF_NUMBER = ("float64", "float32")


def code_of(case: dict[str, Any]) -> UniformBins:
    config = UniformBinsConfig(bins=case["n_bins"], low=case["min_action"], high=case["max_action"])
    return config.build(vocabulary_size=case["vocab_size"])


def of_kit_tokenizer() -> UniformBins:
    return UniformBinsConfig().build(vocabulary_size=kit_tokenizer().vocab_size)


@pytest.mark.parametrize("number", KINDS_OF_NUMBER)
@pytest.mark.parametrize("case", kit.cases(PLACE), ids=lambda case: f"case{case['index']}")
def test_ids_and_centres(case: dict[str, Any], number: str) -> None:
    code = code_of(case)
    stored = kit.arrays(ARRAYS)
    actions, ids, decoded = (
        stored[f"case{case['index']}_{number}_{key}"] for key in ("actions", "token_ids", "decoded")
    )
    np.testing.assert_array_equal(code.encode(actions), ids)
    np.testing.assert_array_equal(code.decode(ids), decoded)


@pytest.mark.parametrize("case", kit.cases(PLACE), ids=lambda case: f"case{case['index']}")
def test_the_code_itself(case: dict[str, Any]) -> None:
    code = code_of(case)
    stored = {
        name.removeprefix(f"case{case['index']}_"): value
        for name, value in kit.arrays(ARRAYS).items()
        if name.startswith(f"case{case['index']}_")
    }
    np.testing.assert_array_equal(code.decode(stored["decode_probe_ids"]), stored["decode_probe_actions"])
    np.testing.assert_array_equal(code.edges, stored["bins"])
    np.testing.assert_array_equal(code.centers, stored["bin_centers"])
    assert code.ids()[0] - 1 == case["action_token_begin_idx"]
    assert len(code.ids()) == case["vocab_size_property"]


@pytest.mark.parametrize("case", kit.cases(PLACE, "strings_1d"), ids=lambda case: case["string"])
def test_one_action_as_text(case: dict[str, Any]) -> None:
    ids = of_kit_tokenizer().encode(np.array(case["action"]))
    assert ids.tolist() == case["token_ids"]
    text = kit_tokenizer().decode(case["token_ids"])
    assert text == case["string"]
    assert [ord(character) for character in text] == case["string_codepoints"]


@pytest.mark.parametrize("case", kit.cases(PLACE, "strings_2d"), ids=lambda case: "+".join(case["strings"]))
def test_several_actions_as_text(case: dict[str, Any]) -> None:
    ids = of_kit_tokenizer().encode(np.array(case["action"]))
    assert kit_tokenizer().batch_decode(ids) == case["strings"]


@pytest.mark.parametrize("stated", [entry["kit_tokenizer"] for entry in [kit.recorded(PLACE)] if entry])
def test_the_tokenizer_of_the_kit(stated: dict[str, int]) -> None:
    tokenizer, last = kit_tokenizer(), kit.recorded(PLACE)["last_257_token_strings"]
    assert tokenizer.vocab_size == stated["vocab_size"]
    assert of_kit_tokenizer().ids()[0] - 1 == stated["action_token_begin_idx"]
    ids = range(tokenizer.vocab_size - len(last), tokenizer.vocab_size)
    assert [tokenizer.decode([number]) for number in ids] == last
