"""Mixtures as entries of a recipe's data: members are prepared like any other, their weights are shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.hooks import Observers, observe
from openvla_toolkit.mixtures import OpenXConfig, WeightedConfig
from openvla_toolkit.stages.prepare import prepare
from openvla_toolkit.testing import DotsEpisodesConfig, DotsRobotConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "rlds" / "data"


class Told:
    """Remembers what was told about mixtures."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []

    @observe
    def metrics_logged(self, stage: str, values: dict[str, Any]) -> None:
        if stage.startswith("prepare mixture"):
            self.values.append(values)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path))


def dots(name: str, **settings: Any) -> DotsEpisodesConfig:
    return DotsEpisodesConfig(dataset=name, **settings)


def test_weights_count_per_frame_within_the_mixture_and_per_entry_outside() -> None:
    mixture = WeightedConfig(data=[dots("a", episodes=2), dots("b", episodes=6, weight=0.5)], weight=3)
    told = Told()
    a, b, c = prepare([mixture, dots("c")], Observers([told]).tell)
    assert a.index is not None
    assert b.index is not None
    frames_a, frames_b = a.index.frames, b.index.frames
    assert (a.weight + b.weight, c.weight) == (pytest.approx(3), 1)
    assert b.weight / a.weight == pytest.approx(0.5 * frames_b / frames_a)
    assert told.values == [{"total": 2, "epoch_samples": pytest.approx(frames_a + 0.5 * frames_b, abs=1)}]


def test_weights_count_per_data_set_when_asked_to() -> None:
    mixture = WeightedConfig(data=[dots("a", episodes=2), dots("b", weight=4)], balance=False)
    assert [item.weight for item in prepare([mixture], Observers().tell)] == [0.2, 0.8]


def test_a_named_mixture_is_read_from_disk() -> None:
    (item,) = prepare([OpenXConfig(mixture="bridge", root=GOLDEN)], Observers().tell)
    assert (item.name, item.weight) == ("bridge_orig", 1)


def test_a_member_may_not_bear_the_name_of_another_entry() -> None:
    with pytest.raises(ContractMismatch, match="two data sets are named 'a'"):
        prepare([WeightedConfig(data=[dots("a")]), dots("a")], Observers().tell)


def with_actions(name: str, action: Sequence[Dimension]) -> DotsEpisodesConfig:
    return dots(name, embodiment=DotsRobotConfig(action=tuple(action)))


def test_units_may_differ_for_each_set_has_statistics_of_its_own() -> None:
    other = [number.model_copy(update={"unit": "0.05 m"}) for number in DotsRobotConfig().action]
    assert len(prepare([dots("a"), with_actions("b", other)], Observers().tell)) == 2


def test_a_change_and_a_position_do_not_go_together() -> None:
    first, *rest = DotsRobotConfig().action
    other = first.model_copy(update={"reference": "absolute" if first.reference == "delta" else "delta"})
    message = f"'a' and 'b' have different actions: '{first.name}' is {first.reference}, "
    with pytest.raises(ContractMismatch, match=message):
        prepare([dots("a"), with_actions("b", [other, *rest])], Observers().tell)
