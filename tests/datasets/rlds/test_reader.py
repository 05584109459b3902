"""Episodes by position, and images by address."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.errors import ContractMismatch, DataError, RecipeError
from openvla_toolkit.core.types import ADDRESS_FIELDS
from openvla_toolkit.datasets.rlds import reader
from openvla_toolkit.datasets.rlds.card import DatasetCard
from openvla_toolkit.datasets.rlds.features import FeaturesDict
from openvla_toolkit.datasets.rlds.reader import RLDSDataset
from openvla_toolkit.datasets.rlds.tfrecord import open_shard, record, record_offsets
from openvla_toolkit.datasets.rlds.writer import RLDSWriter

if TYPE_CHECKING:
    from conftest import Made


def test_episodes_come_back_as_they_were_written(made: Made) -> None:
    data = made.config(split="all").build()
    written = made.train + made.val
    assert len(data) == len(written)
    for position, episode in enumerate(written):
        steps, found = episode["steps"], data[position]
        assert len(found) == len(steps["action"])
        np.testing.assert_array_equal(found.actions, steps["action"])
        np.testing.assert_array_equal(found.states[:, :3], steps["observation"]["joints"])
        np.testing.assert_array_equal(found.states[:, 3], 0)
        np.testing.assert_array_equal(found.states[:, 4], steps["observation"]["gripper"])
        assert list(found.instructions) == steps["language_instruction"]
        assert [data.image(address) for address in found.images["wrist"]] == steps["observation"]["wrist"]


def test_addresses_point_into_the_files(made: Made) -> None:
    data = made.config().build()
    files = data.describe().files
    assert len(files) == 3
    assert {int(data[position].images["primary"]["file"][0]) for position in range(5)} == {0, 1, 2}
    for position in range(5):
        addresses = data[position].images["primary"]
        assert addresses.dtype == np.dtype(ADDRESS_FIELDS)
        for address, pixels in zip(
            addresses, made.train[position]["steps"]["observation"]["image"], strict=True
        ):
            start = int(address["offset"])
            raw = Path(files[address["file"]]).read_bytes()[start : start + int(address["length"])]
            assert data.image(address) == raw
            decoded = simplejpeg.decode_jpeg(raw).astype(int)
            assert np.abs(decoded - pixels).mean() < 12


def test_trajectories_carry_all_features(made: Made) -> None:
    trajectory = made.config().build().trajectory(3)
    goal = made.train[3]["steps"]["observation"]["clip/goal"]
    np.testing.assert_array_equal(trajectory["observation"]["clip/goal"], goal)
    about = trajectory["traj_metadata"]["episode_metadata"]
    assert about["number"].tolist() == [3] * 5
    assert about["path"].tolist() == ["raw/3"] * 5


def test_a_key_with_a_slash_and_one_of_the_episode_can_be_chosen(made: Made) -> None:
    data = made.config(
        state=["clip/goal", None, "gripper", "gripper"],
        instruction="traj_metadata/episode_metadata/path",
    ).build()
    assert set(data[1].instructions) == {"raw/1"}
    np.testing.assert_array_equal(data[1].states[:, :2], made.train[1]["steps"]["observation"]["clip/goal"])


@pytest.mark.parametrize("split", ["train", "train[1:4]", "train[50%:]", "val+train[:2]", "all"])
def test_parts_of_splits_are_parts_of_the_whole(made: Made, split: str) -> None:
    from openvla_toolkit.datasets.rlds.splits import select

    everything = {"train": made.train, "val": made.val}
    wanted = [
        everything[part.split][position]
        for part in select(split, {"train": 5, "val": 2})
        for position in range(part.start, part.stop)
    ]
    data = made.config(split=split).build()
    assert len(data) == len(wanted)
    for position, episode in enumerate(wanted):
        np.testing.assert_array_equal(data[position].actions, episode["steps"]["action"])


def test_positions_outside_raise_index_errors(made: Made) -> None:
    data = made.config().build()
    for position in (5, -1):
        with pytest.raises(IndexError):
            data[position]


def test_copies_read_the_same(made: Made) -> None:
    data = made.config().build()
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[4].actions, data[4].actions)
    address = data[4].images["primary"][-1]
    assert copy.image(address) == data.image(address)
    assert copy.describe() == data.describe()


def test_the_description_names_robot_and_cameras(made: Made, card: DatasetCard) -> None:
    description = made.config().build().describe()
    assert description.name == "toy"
    assert description.cameras == ["primary", "wrist"]
    robot = card.embodiment.build()
    recorded = description.robot
    assert recorded is not None
    assert recorded.cameras.keys() == {"primary", "wrist"}  # the embodiment knows one, the data has two
    assert recorded.model_copy(update={"cameras": robot.cameras}) == robot
    assert [Path(file) for file in description.files] == made.shards[:3]


def test_the_fingerprint_follows_content_and_settings(made: Made, features: FeaturesDict) -> None:
    def fingerprint(**settings: Any) -> str:
        return made.config(**settings).build().describe().fingerprint

    first = fingerprint()
    assert fingerprint(weight=3.0, verify=False) == first
    assert (
        len(
            {first, fingerprint(split="val"), fingerprint(state=[]), fingerprint(action="observation/joints")}
        )
        == 4
    )
    assert fingerprint() == first
    damage(made.shards[0], -20)
    assert fingerprint() != first


def test_a_shard_that_changes_in_its_middle_is_another(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "HINT_BYTES", 16)
    first = made.config().build().describe().fingerprint
    damage(made.shards[1], made.shards[1].stat().st_size // 2)
    changed = made.config().build()
    assert changed.describe().fingerprint != first
    with pytest.raises(DataError):
        list(map(changed.__getitem__, range(len(changed))))


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.unlink()
    path.write_bytes(data)


def test_damaged_bytes_are_named_and_other_episodes_still_read(made: Made) -> None:
    shard = made.shards[0]
    second = int(record_offsets(open_shard(shard))[1])
    damage(shard, second + 40)
    data = made.config().build()
    data[0]
    with pytest.raises(DataError, match="checksum") as caught:
        data[1]
    assert (caught.value.file, caught.value.episode) == (str(shard), 1)


def test_unchecked_damage_never_goes_past_the_parser_unnamed(made: Made) -> None:
    shard = made.shards[0]
    damage(shard, 12)  # the first byte of the first record's data: its tag
    with pytest.raises(DataError, match=r"not a tf\.train\.Example|does not hold this key") as caught:
        made.config(verify=False).build()[0]
    assert (caught.value.file, caught.value.episode) == (str(shard), 0)


def test_a_shard_with_fewer_records_than_promised_is_named(made: Made) -> None:
    shard = made.shards[0]
    whole = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(whole[: int(record_offsets(open_shard_of(shard, whole))[1])])
    with pytest.raises(DataError, match=r"it holds 1 records, dataset_info\.json promises 2"):
        made.config().build()[0]


def open_shard_of(path: Path, data: bytes) -> Any:
    copy = path.with_suffix(".copy")
    copy.write_bytes(data)
    return open_shard(copy)


def test_an_address_past_the_end_is_named(made: Made) -> None:
    data = made.config().build()
    address = data[0].images["primary"].copy()
    address["offset"] = 1 << 40
    with pytest.raises(DataError, match="lies past the end of the file"):
        data.image(address[0])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"cameras": {"primary": "imag"}},
            r"^cameras\.primary: data set 'toy': there is no 'imag'\. Did you mean 'image'\?",
        ),
        (
            {"cameras": {"primary": "joints"}},
            r"^cameras\.primary: data set 'toy': 'observation/joints' does not hold images",
        ),
        ({"state": ["joints", "elbow"]}, r"^state\.1: data set 'toy': there is no 'elbow'"),
        ({"instruction": "task"}, r"^instruction: data set 'toy': there is no 'task'.*language_instruction"),
        ({"action": "observation"}, r"^action: data set 'toy': there is no 'observation'"),
    ],
)
def test_a_key_that_is_not_there_is_named_with_those_that_are(
    made: Made, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        made.config(**settings).build()[0]


def test_values_of_the_wrong_kind_are_named(made: Made) -> None:
    with pytest.raises(DataError, match="expected numbers, found object") as caught:
        made.config(action="language_instruction").build()[0]
    assert caught.value.key == "language_instruction"
    with pytest.raises(DataError, match="expected texts: found float64"):
        made.config(instruction="observation/gripper", state=[]).build()[0]


def test_vectors_that_do_not_suit_the_robot_are_refused(made: Made, card: DatasetCard) -> None:
    extra = Dimension(name="third", unit="m", reference="delta")
    robot = card.embodiment.model_copy(update={"action": (*card.embodiment.action, extra)})
    with pytest.raises(
        ContractMismatch, match="the action has 2 numbers, the embodiment 'custom' describes 3"
    ):
        made.config(embodiment=robot).build()[0]
    with pytest.raises(
        ContractMismatch, match=r"the state has 3 numbers.*describes 5 \(a, b, c, pad, gripper\)"
    ):
        made.config(state=["joints"]).build()[0]


def rewritten(made: Made, features: FeaturesDict, card: DatasetCard, episode: dict[str, Any]) -> RLDSDataset:
    with RLDSWriter(made.root, dataset="odd", features=features, card=card) as writer:
        writer.write(episode)
    return made.config(dataset="odd").build()


def test_numbers_that_are_not_finite_are_named(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    episode = made.train[2]
    episode["steps"]["action"][3, 1] = np.nan
    with pytest.raises(DataError, match="expected finite numbers, found") as caught:
        rewritten(made, features, card, episode)[0]
    assert (caught.value.frame, caught.value.key, caught.value.episode) == (3, "action", 0)


def test_steps_of_different_lengths_are_named(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    episode = made.train[2]
    episode["steps"]["observation"]["joints"] = episode["steps"]["observation"]["joints"][:2]
    with pytest.raises(DataError, match="it has 2 steps, others of the episode have 4") as caught:
        rewritten(made, features, card, episode)[0]
    assert caught.value.key == "steps/observation/joints"


def test_an_episode_without_steps_is_empty(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    steps = made.train[0]["steps"]
    steps["observation"] = {key: value[:0] for key, value in steps["observation"].items()}
    empty = {
        **made.train[0],
        "steps": {key: steps[key][:0] if key != "observation" else steps[key] for key in steps},
    }
    episode = rewritten(made, features, card, empty)[0]
    assert len(episode) == 0
    assert episode.actions.shape == (0, 2)
    assert episode.states.shape == (0, 5)
    assert len(episode.images["primary"]) == 0


def test_an_episode_that_transforms_make_empty_is_named(made: Made) -> None:
    data = made.config(transforms=[{"name": "skip-idle"}]).build()

    def nothing(trajectory: dict[str, Any]) -> dict[str, Any]:
        return {
            key: nothing(value) if isinstance(value, dict) else value[:0] for key, value in trajectory.items()
        }

    data._episode._transforms = [nothing]
    with pytest.raises(DataError, match=r"recorded with 2 frames, of which .* 'skip-idle' left 0") as caught:
        data[0]
    assert (Path(str(caught.value.file)), caught.value.episode) == (made.shards[0], 0)


def test_a_picture_without_bytes_is_named(made: Made, features: FeaturesDict, card: DatasetCard) -> None:
    episode = made.train[2]
    episode["steps"]["observation"]["wrist"][1] = b""
    with pytest.raises(DataError, match="the picture has no bytes") as caught:
        rewritten(made, features, card, episode)[0]
    place = (caught.value.episode, caught.value.frame, caught.value.key)
    assert place == (0, 1, "observation/wrist")


def test_a_set_that_is_not_rlds_is_refused(made: Made) -> None:
    path = made.folder / "features.json"
    path.write_text(path.read_text().replace('"steps"', '"frames"'))
    with pytest.raises(DataError, match="the set is not RLDS") as caught:
        made.config().build()
    assert caught.value.file == path


def test_the_data_of_a_record_are_not_copied(made: Made) -> None:
    shard = open_shard(made.shards[0])
    assert record(shard, 0)[1].obj is record(shard, 1)[1].obj
