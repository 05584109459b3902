"""The catalog in words."""

from __future__ import annotations

import json

import pytest

from openvla_toolkit.catalog.listing import described, description_page, listed, listing_page
from openvla_toolkit.catalog.models import known_ids
from openvla_toolkit.core.errors import UserError


def test_every_model_has_its_line() -> None:
    lines = listing_page(shipped=["tabletop-scenes"]).splitlines()
    for name in known_ids():
        assert len([line for line in lines if line.split()[:1] == [name]]) == 1
    assert ["tabletop-scenes"] in [line.split() for line in lines]
    (line,) = [line for line in lines if line.startswith("  openvla/openvla-7b ")]
    assert "7.54 B" in line
    unreleased = [line for line in lines if "(no weights)" in line and line.startswith("  ")]
    assert [line.split()[0] for line in unreleased] == ["dinosiglip-224px-resize-naive+7b"]


def test_the_records_are_plain_data() -> None:
    records = json.loads(json.dumps(listed()))
    assert [record["id"] for record in records] == known_ids()
    assert {record["kind"] for record in records} == {"vlm", "policy", "configuration"}


@pytest.mark.parametrize("name", known_ids())
def test_every_model_can_be_described(name: str) -> None:
    facts = json.loads(json.dumps(described(name)))
    page = description_page(name)
    assert page.splitlines()[0] == facts["id"] == name
    assert f"{facts['parameters']:,}" in page
    assert max(map(len, page.splitlines())) <= 120


def test_a_page_says_what_one_needs_to_know() -> None:
    page = description_page("Prism-DINOSigLIP 224px 7B")
    for fact in (
        "7,541,237,184",
        "224 x 224 pixels, resize-naive",
        "256 patches of width 2176",
        "meta-llama/Llama-2-7b-hf",
        "finetune_learning_rate 2e-05",
        "https://huggingface.co/TRI-ML/prismatic-vlms/tree/main/prism-dinosiglip-224px+7b",
    ):
        assert fact in page
    assert "align_learning_rate" not in page  # this model had no such stage
    assert "align_learning_rate" in description_page("reproduction-llava-v15+7b")
    assert "bridge_orig" in description_page("openvla/openvla-7b")


def test_an_unknown_name_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no model 'nonsense'"):
        description_page("nonsense")
