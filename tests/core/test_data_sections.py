"""Settings that would be ignored are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from openvla_toolkit.core.data_sections import Goals, Shuffle


@pytest.mark.parametrize(
    ("section", "settings", "words"),
    [
        (
            Goals,
            {"name": "uniform", "discount": 0.9},
            "'discount' is a setting of 'geometric', and 'name' is 'un",
        ),
        (Goals, {"name": "last-upweighted", "discount": 0.9}, "'discount' is a setting of 'geometric'"),
        (Shuffle, {"block": 32}, "'block' is a setting of 'blocks', and 'name' is 'global'"),
        (Shuffle, {"name": "global", "window": 4}, "'window' is a setting of 'blocks'"),
    ],
)
def test_a_setting_of_another_choice_is_refused(
    section: type[Goals | Shuffle], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        section.model_validate(settings)


@pytest.mark.parametrize(
    "section", [Goals(), Shuffle(), Goals(name="geometric"), Shuffle(name="blocks", block=3)]
)
def test_what_is_written_out_in_full_is_the_same(section: Goals | Shuffle) -> None:
    """A lock file gives every setting."""
    assert type(section).model_validate(section.model_dump()) == section
