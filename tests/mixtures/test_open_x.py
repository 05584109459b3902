"""Named mixtures: what is in them, and what becomes of members that are not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.data_sections import Filters, Goals
from openvla_toolkit.core.errors import MissingFile, RecipeError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.catalog import catalog
from openvla_toolkit.mixtures import OpenXConfig
from openvla_toolkit.mixtures.open_x import Entry, named_mixtures, without_repeats

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = GOLDEN / "rlds" / "data"


def test_every_member_is_in_the_catalog() -> None:
    assert len(named_mixtures()) == 23, "18, and 5 of OpenVLA-OFT"
    assert {entry.dataset for entries in named_mixtures().values() for entry in entries} <= set(catalog())


def test_of_a_name_that_comes_twice_the_first_entry_stands() -> None:
    assert without_repeats([Entry("a", 2), Entry("b", 1), Entry("a", 9)]) == [("a", 2), ("b", 1)]
    kept = {entry.dataset: entry.weight for entry in without_repeats(named_mixtures()["rtx_franka"])}
    assert (len(kept), kept["taco_play"]) == (24, 2.0)


def test_a_recipe_names_a_mixture_among_its_data() -> None:
    recipe = Recipe.from_mapping(
        {"output": "x", "data": [{"name": "open-x", "mixture": "bridge", "root": str(DATA), "weight": 2}]}
    )
    assert recipe.data == [OpenXConfig(mixture="bridge", root=DATA, weight=2)]
    (member,) = recipe.data[0].build()
    assert isinstance(member, RLDSConfig)
    assert (member.dataset, member.weight, member.cameras) == ("bridge_orig", 1.0, {"primary": "image_0"})


def test_a_member_that_is_not_there_stops_the_run_by_name() -> None:
    with pytest.raises(
        MissingFile, match=r"^mixture 'bridge_rt_1', member 'fractal20220817_data': .*on_error"
    ):
        OpenXConfig(mixture="bridge_rt_1", root=DATA).build()


def test_skipped_members_are_counted_and_named() -> None:
    config = OpenXConfig(mixture="bridge_rt_1", root=DATA, on_error="skip")
    members = config.build()
    ((name, reason),) = config.left_out().items()
    assert name == "fractal20220817_data"
    assert "fractal20220817_data" in reason
    assert OpenXConfig(mixture="bridge", root=DATA, on_error="skip").left_out() == {}
    assert [(member.weight, member.on_error) for member in members] == [(1.0, "skip")]


def test_members_are_filtered_as_openvla_does_or_as_asked() -> None:
    def filters(**settings: Any) -> Filters:
        (member,) = OpenXConfig(mixture="bridge", root=DATA, **settings).build()
        return member.filters

    assert filters() == Filters(unlabeled="drop")
    assert filters(filters={"max_action": 2}) == Filters(max_action=2)


def test_members_are_shown_the_goals_that_are_asked_for() -> None:
    (member,) = OpenXConfig.model_validate({"mixture": "bridge", "root": DATA, "goals": "geometric"}).build()
    assert member.goals == Goals(name="geometric")


def test_a_mixture_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none of the members of mixture 'bridge' can be read"):
        OpenXConfig(mixture="bridge", root=tmp_path, on_error="skip").build()


def test_a_member_without_a_wanted_camera_is_named() -> None:
    with pytest.raises(
        RecipeError, match=r"'bridge_orig': it has no camera 'wrist', only primary, secondary"
    ):
        OpenXConfig(mixture="bridge", root=DATA, cameras=["primary", "wrist"]).build()


def test_the_card_beside_the_data_goes_before_the_catalog(tmp_path: Path) -> None:
    shutil.copytree(DATA / "bridge_orig", tmp_path / "bridge_orig")
    card = "cameras: {primary: image_1}\nembodiment: widowx\n"
    (tmp_path / "bridge_orig" / "1.0.0" / "openvla.yaml").write_text(card)
    (member,) = OpenXConfig(mixture="bridge", root=tmp_path).build()
    assert isinstance(member, RLDSConfig)
    assert member.cameras == {"primary": "image_1"}


def test_an_unknown_mixture_is_suggested_for() -> None:
    with pytest.raises(RecipeError, match=r"no mixture 'oxe_magic_sup'\. Did you mean 'oxe_magic_soup'\?"):
        OpenXConfig(mixture="oxe_magic_sup", root=DATA).build()
