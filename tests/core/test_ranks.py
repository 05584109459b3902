"""Which process of a run this is, as torchrun and the launchers say it."""

from __future__ import annotations

import pytest

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.ranks import Ranks

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process of the second of two machines with two each."""
    for variable, value in zip(VARIABLES, "3142", strict=True):
        monkeypatch.setenv(variable, value)


def test_a_process_is_alone_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert not Ranks.are_given()
    assert Ranks.here() == Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1)
    assert Ranks.here().is_first


def test_torchruns_variables_are_read(started: None) -> None:
    assert Ranks.are_given()
    assert Ranks.here() == Ranks(rank=3, local_rank=1, world_size=4, local_world_size=2)
    assert not Ranks.here().is_first


def test_a_rank_beyond_the_world_is_refused(started: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"RANK=3 and WORLD_SIZE=3 do not go together"):
        Ranks.here()


def test_what_is_no_number_is_named(started: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(UserError, match="LOCAL_RANK is 'first'; a number is expected"):
        Ranks.here()
