from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openvla_toolkit.core.contract import Camera
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.pipeline.data_card.concerns import concerns
from openvla_toolkit.pipeline.data_card.facts import facts, title
from openvla_toolkit.pipeline.data_card.pictures import header
from openvla_toolkit.pipeline.data_card.plain import plain
from tests.pipeline.data_card.made import ROBOT, Made, card_of, picture, told


def test_a_sound_data_set_gives_no_cause_for_concern(tmp_path: Path) -> None:
    card = card_of(Made(), tmp_path)
    assert concerns(card) == []
    assert (card.name, card.version, card.splits) == ("made", "1.2.3", {"train": 3, "val": 1})
    assert (card.episodes, card.frames, card.samples, card.seconds) == (3, 90, 90, 18)
    assert (card.lengths.shortest, card.lengths.median, card.lengths.longest) == (20, 30, 40)
    assert sum(card.lengths.counts) == 3
    assert title(card) == "made 1.2.3 · dots-episodes"
    assert dict(facts(card))["Instructions"] == ["3 different", "1 x do 0", "1 x do 1", "1 x do 2"]


def test_numbers_are_those_of_the_frames(tmp_path: Path) -> None:
    made = Made()
    made.actions[0, 0] = 9.0
    x, y, gripper, height, grip = card_of(made, tmp_path).measures
    assert [(one.vector, one.name) for one in (x, height)] == [("action", "x"), ("state", "height")]
    assert [one.gripper for one in (x, y, gripper, height, grip)] == [False, False, True, False, True]
    assert (x.max, x.outliers, y.outliers) == (9.0, 1, 0)
    assert x.mean == pytest.approx(made.actions[:, 0].astype(float).mean())
    assert gripper.saturated == pytest.approx(88 / 90)
    assert y.saturated == 0


def test_idle_frames_are_found_and_the_filter_is_proposed(tmp_path: Path) -> None:
    made = Made()
    made.actions[2:12, :2] = 0
    made.actions[10:12, 2] = 0  # the gripper closes at frame 10: that is something
    card = card_of(made, tmp_path)
    assert card.motion.no_op == pytest.approx(9 / 90)
    assert card.motion.slight >= card.motion.no_op
    assert "Nothing moves in 10.0 % of the frames" in told(card)
    assert "transforms: [{name: skip-idle, threshold: [" in told(card)


def test_of_positions_the_change_counts(tmp_path: Path) -> None:
    made = Made(
        robot=ROBOT.model_copy(
            update={"action": tuple(one.model_copy(update={"reference": "absolute"}) for one in ROBOT.action)}
        )
    )
    made.actions[:, :2] = np.arange(90)[:, None]
    made.actions[5:15] = made.actions[5]
    card = card_of(made, tmp_path)
    assert card.motion.no_op == pytest.approx(9 / 90)
    assert not card.motion.relative
    assert "openvla new transform" in told(card)


def test_a_gripper_that_begins_closed_is_suspicious(tmp_path: Path) -> None:
    made = Made()
    made.actions[:, 2] = 1 - made.actions[:, 2]
    made.states[:, 1] = np.random.default_rng(1).random(90)
    card = card_of(made, tmp_path)
    assert card.grips[0].open_at_start == 0
    assert "'gripper' is open at the start of only 0.0 % of the episodes, read as open_high." in told(card)
    assert "gripper: open_low" in told(card)


def test_a_gripper_against_its_own_state_is_suspicious(tmp_path: Path) -> None:
    made = Made()
    made.states[:, 1] = 1 - made.states[:, 1]
    card = card_of(made, tmp_path)
    assert card.grips[0].agreement == pytest.approx(-1)
    assert "moves against the gripper of the state (correlation -1.00" in told(card)
    agreeing = card_of(Made(), tmp_path / "other")
    assert agreeing.grips[0].agreement == pytest.approx(1)
    assert agreeing.grips[0].open == pytest.approx(0.5)


def test_a_gripper_that_never_moves_is_told(tmp_path: Path) -> None:
    made = Made()
    made.actions[:, 2] = 1
    card = card_of(made, tmp_path)
    assert card.grips[0].open is None
    assert "'gripper' never moves." in told(card)


def test_instructions_are_counted_and_compared(tmp_path: Path) -> None:
    made = Made(lengths=(4, 4, 4, 4, 2))
    made.texts = ["Pick up", *["pick  up!"] * 3, *["Pick up"] * 4, *["öffne"] * 4, *[" "] * 4, "", "go"]
    card = card_of(made, tmp_path, filters={"unlabeled": "drop"})
    words = card.wording
    assert (words.texts, words.empty_frames, words.empty_episodes, words.changing_episodes) == (4, 5, 1, 2)
    assert words.frequent[0] == ("Pick up", 2)
    assert words.alike == [["Pick up", "pick  up!"]]
    assert "nothing in 1 episode." in told(card)
    assert "filters: {unlabeled: drop}" in told(card)
    assert "'Pick up' / 'pick  up!'" in told(card)


def test_one_instruction_for_all_is_told(tmp_path: Path) -> None:
    made = Made()
    made.texts = ["go"] * 90
    assert "There is one instruction only: 'go'." in told(card_of(made, tmp_path))


def test_what_does_not_become_a_sample_is_counted_with_its_reason(tmp_path: Path) -> None:
    made = Made(broken={1})
    made.keep = np.arange(90) >= 5
    made.texts = [text if text != "do 2" else "" for text in made.texts]
    card = card_of(made, tmp_path, filters={"unlabeled": "drop"})
    assert (card.episodes, card.frames, card.samples) == (2, 60, 15)
    assert [one.episode for one in card.skipped] == [1]
    assert [(one.reason, one.episodes, one.frames) for one in card.filtered] == [("unlabeled", 1, 40)]
    assert "1 episode cannot be read; number 1: " in told(card)
    assert "on_error: skip" in told(card)


def test_limits_are_told_with_the_rule_under_which_they_were_laid_on(tmp_path: Path) -> None:
    made = Made()
    assert card_of(made, tmp_path).rule is None
    card = card_of(made, tmp_path, filters={"max_action": 0.999})
    lines = dict(facts(card))["Samples"]
    assert "limits are of numbers that bounds_q99 normalised, clipped to [-1, 1]; " in lines[-1]
    assert plain(card, [])["rule"]["method"] == "bounds_q99"


def test_where_nothing_is_left_the_reasons_are_kept(tmp_path: Path) -> None:
    made = Made()
    made.texts = [text if text != "do 2" else "" for text in made.texts]
    card = card_of(made, tmp_path, filters={"unlabeled": "drop", "max_action": 1e-6})
    assert card.samples == 0
    assert [(one.reason, one.episodes) for one in card.filtered] == [("unlabeled", 1), ("max_action", 2)]
    assert "No sample is left: unlabeled drops 1 of 3, max_action drops 2 of 3." in told(card)


def test_numbers_that_are_none_are_told_with_their_place(tmp_path: Path) -> None:
    made = Made()
    made.actions[25, 1] = np.nan
    made.states[60, 0] = np.inf
    card = card_of(made, tmp_path)
    assert [(one.episode, one.reason) for one in card.skipped] == [
        (1, "episode made/1, frame 5, 'action': a value is not finite."),
        (2, "episode made/2, frame 10, 'observation.state': a value is not finite."),
    ]
    assert "2 episodes cannot be read; number 1: " in told(card)


def test_no_sample_left_is_no_error_but_a_concern(tmp_path: Path) -> None:
    card = card_of(Made(), tmp_path, filters={"max_action": 1e-9})
    assert card.samples == 0
    assert "No sample is left" in told(card)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros(200), "'x' of the action never changes."),
        (np.where(np.arange(200) == 3, 1.0, 0.0), "policy: {normalization: openvla-bounds}"),
        (np.where(np.arange(200) % 3 == 0, 0.02, np.arange(200) * 1e-4), "stands at an end of the range"),
    ],
)
def test_dimensions_that_need_care_are_named(tmp_path: Path, column: np.ndarray, message: str) -> None:
    made = Made(lengths=(90, 110))
    made.actions[:, 0] = column
    assert message in told(card_of(made, tmp_path))


def test_far_outliers_are_told(tmp_path: Path) -> None:
    made = Made(lengths=(1000,))
    made.actions[17, 0] = 5
    assert "'x' of the action has outliers: x reaches from" in told(card_of(made, tmp_path))


def test_pictures_of_another_size_and_damaged_ones_are_told(tmp_path: Path) -> None:
    made = Made()
    made.pictures = {0: b"", 89: picture(16, 12)}
    card = card_of(made, tmp_path)
    (found,) = card.pictures
    assert found.sizes == {(6, 8): 22, (12, 16): 1}
    assert list(found.damaged) == ["made/0, frame 0"]
    assert "Pictures of 'front' are 16 x 12 and 8 x 6, described as 8 x 6." in told(card)
    assert "1 of 24 pictures of 'front' are damaged; made/0, frame 0: there is no picture." in told(card)


def test_a_camera_may_be_described_otherwise(tmp_path: Path) -> None:
    cameras = {"front": Camera(height=6, width=9)}
    made = Made(robot=ROBOT.model_copy(update={"cameras": cameras}))
    assert "are 8 x 6, described as 9 x 6" in told(card_of(made, tmp_path))


def test_headers_are_read_without_decoding() -> None:
    assert header(picture(40, 30)) == ("jpeg", 30, 40)
    assert header(picture(40, 30)[:-20]) == ("jpeg", 30, 40)
    assert header(np.zeros((3, 4, 3), np.uint8)) == ("pixels", 3, 4)
    with pytest.raises(DataError, match="4 bytes are no picture"):
        header(b"oops")


def test_copies_of_episodes_are_found(tmp_path: Path) -> None:
    made = Made(lengths=(20, 20, 20, 30))
    made.actions[20:40] = made.actions[:20]
    card = card_of(made, tmp_path)
    assert card.twins.episodes == 1
    assert "The actions of 1 episode are those of another: made/0 = made/1." in told(card)


def test_a_card_is_plain_data_for_programs(tmp_path: Path) -> None:
    made = Made(lengths=(90, 110))
    made.actions[:, 0] = np.where(np.arange(200) == 3, 1.0, 0.0)
    card = card_of(made, tmp_path)
    data = json.loads(json.dumps(plain(card, concerns(card)), allow_nan=False))
    assert data["episodes"] == 2
    assert data["pictures"][0]["sizes"] == {"8x6": 24}
    assert data["statistics"]["num_transitions"] == 200
    assert data["concerns"][0]["lines"] == "policy: {normalization: openvla-bounds}"
    assert data["robot"]["action"][2]["gripper"] == "open_high"
