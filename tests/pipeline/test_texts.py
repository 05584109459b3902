"""Texts come back as they went, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.pipeline.texts import TextTable


def table(texts: list[str]) -> TextTable:
    data = [text.encode() for text in texts]
    ends = np.cumsum([len(one) for one in data], dtype=np.int64)
    return TextTable(np.frombuffer(b"".join(data), dtype=np.uint8), ends)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=8))
def test_it_is_the_list(texts: list[str]) -> None:
    found = table(texts)
    assert list(found) == texts
    assert len(found) == len(texts)
    assert found[1:] == texts[1:]
    assert [found[-1 - place] for place in range(len(texts))] == texts[::-1]


@pytest.mark.parametrize("position", [2, -3])
def test_past_the_end_is_an_error(position: int) -> None:
    with pytest.raises(IndexError, match="of 2"):
        table(["a", "ü"])[position]
