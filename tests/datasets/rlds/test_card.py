"""How a data set is read: the recipe before the card, the card before the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.card import DatasetCard, load_card, save_card
from openvla_toolkit.transforms import OpenXConfig

if TYPE_CHECKING:
    from conftest import Made

GOLDEN = Path(__file__).parents[2] / "golden" / "rlds" / "data"


def test_a_card_survives_the_disk(tmp_path: Path, card: DatasetCard) -> None:
    full = card.model_copy(
        update={"transforms": [OpenXConfig(dataset="droid")], "generated": {"seed": 3, "noise": 0.25}}
    )
    save_card(full, tmp_path / "openvla.yaml")
    assert load_card(tmp_path / "openvla.yaml") == full


def test_the_card_beside_the_data_is_used(made: Made, card: DatasetCard) -> None:
    assert made.config().card() == card


def test_the_recipe_is_laid_over_the_card(made: Made, card: DatasetCard) -> None:
    found = made.config(cameras={"front": "image"}, state=[], action="observation/joints").card()
    assert found.cameras == {"front": "image"}
    assert found.state == []
    assert found.action == "observation/joints"
    assert found.embodiment == card.embodiment


def test_what_is_written_out_in_full_reads_the_same(made: Made) -> None:
    # A lock file gives every setting; what was left to the card must still be.
    config = made.config()
    assert RLDSConfig.model_validate(config.model_dump(mode="json")).card() == config.card()


def test_the_catalog_knows_what_has_no_card() -> None:
    config = RLDSConfig(root=GOLDEN, dataset="bridge_orig")
    card = config.card()
    assert card.cameras == {"primary": "image_0", "secondary": "image_1"}
    assert card.transforms == [OpenXConfig(dataset="bridge_orig")]
    assert card.embodiment is not None
    assert card.embodiment.name == "widowx"


def test_without_card_and_catalog_the_lines_to_paste_are_given(made: Made) -> None:
    (made.folder / "openvla.yaml").unlink()
    with pytest.raises(RecipeError) as caught:
        made.config().build()
    message = str(caught.value)
    assert message.startswith("cameras: how to read 'toy' is not fully known")
    for line in (
        "  observation/image: Image uint8 [8, 10, 3]",
        "  observation/gripper: Scalar float64",
        "  action: Tensor float32 [2]",
        "  cameras: {primary: image}",
        "  instruction: language_instruction",
        "  embodiment: {name: custom, ...}",
    ):
        assert line in message.splitlines()


def test_without_a_robot_the_lines_to_paste_are_given(made: Made) -> None:
    (made.folder / "openvla.yaml").unlink()
    with pytest.raises(RecipeError, match=r"^embodiment: how to read 'toy'"):
        made.config(cameras={"primary": "image"}).build()


def test_a_mistake_in_a_card_has_an_address(tmp_path: Path) -> None:
    path = tmp_path / "openvla.yaml"
    path.write_text("cameras: {primary: image}\nstates: [joints]\n")
    with pytest.raises(RecipeError, match=r"openvla\.yaml:2: states: unknown key\. Did you mean 'state'\?"):
        load_card(path)
    path.write_text("cameras: {}\n")
    with pytest.raises(RecipeError, match=r"openvla\.yaml:1: cameras"):
        load_card(path)
