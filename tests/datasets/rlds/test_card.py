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
        "cameras: {primary: image, wrist: wrist}",
        "instruction: language_instruction",
    ):
        assert line in message.splitlines()


def test_the_lines_are_a_card_but_for_what_nobody_but_a_person_knows(made: Made, card: DatasetCard) -> None:
    path = made.folder / "openvla.yaml"
    path.unlink()
    with pytest.raises(RecipeError) as caught:
        made.config().build()
    path.write_text("cameras:" + str(caught.value).partition("\ncameras:")[2] + "\n")
    with pytest.raises(RecipeError, match=r"openvla\.yaml:7: embodiment\.control_hz: .*not None\.$"):
        made.config().build()
    path.write_text(path.read_text().replace("control_hz: null", "control_hz: 10"))
    dataset = made.config().build()
    assert dataset.card.cameras == card.cameras
    robot = dataset.describe().robot
    assert robot is not None
    assert {name: (one.height, one.width) for name, one in robot.cameras.items()} == {
        "primary": (8, 10),
        "wrist": (4, 4),
    }
    assert [one.name for one in robot.action] == ["action_0", "action_1"]
    assert dataset[0].states is not None
    assert dataset[0].states.shape[1] == len(robot.state) == 6


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


def test_a_key_that_the_data_do_not_have_is_told_with_file_line_and_set(made: Made) -> None:
    path = made.folder / "openvla.yaml"
    path.write_text(path.read_text().replace("primary: image", "primary: image_7"))
    with pytest.raises(
        RecipeError,
        match=r"openvla\.yaml:2: cameras\.primary: data set 'toy': there is no 'image_7'\. Did you",
    ):
        made.config().build()[0]
    path.write_text(path.read_text().replace("- joints", "- joint").replace("image_7", "image"))
    with pytest.raises(
        RecipeError, match=r"openvla\.yaml:\d+: state\.0: data set 'toy': there is no 'joint'"
    ):
        made.config().build()[0]


def test_a_key_of_the_recipe_is_not_blamed_on_the_card(made: Made) -> None:
    with pytest.raises(RecipeError, match=r"^cameras\.primary: data set 'toy': there is no 'front'"):
        made.config(cameras={"primary": "front"}).build()[0]
