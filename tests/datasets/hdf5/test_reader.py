from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import simplejpeg

from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile, RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.datasets.hdf5 import HDF5Config
from openvla_toolkit.testing import check_dataset

LENGTHS = (3, 5)


def robot(state: int, action: int) -> dict[str, Any]:
    def vector(size: int) -> list[dict[str, str]]:
        return [{"name": str(number), "unit": "1", "reference": "absolute"} for number in range(size)]

    cameras = {"primary": {"height": 256, "width": 256}}
    return {
        "name": "custom",
        "cameras": cameras,
        "state": vector(state),
        "action": vector(action),
        "control_hz": 20,
    }


def pictures(length: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (length, 8, 10, 3), np.uint8)


@pytest.fixture
def libero(tmp_path: Path) -> Path:
    """Two demonstrations in the layout of robomimic, with LIBERO's attributes."""
    path = tmp_path / "pick_up_the_bowl_demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["pick up the bowl"]})
        for number, length in zip((2, 10), LENGTHS, strict=True):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.full((length, 7), number, np.float64)
            demo["obs/ee_states"] = np.arange(length * 6, dtype=np.float64).reshape(length, 6)
            demo["obs/gripper_states"] = np.ones((length, 2))
            demo["obs/agentview_rgb"] = pictures(length, seed=number)
    return path


def settings(root: Path, **changes: Any) -> HDF5Config:
    given = {
        "root": root,
        "cameras": {"primary": "obs/agentview_rgb"},
        "state": ["obs/ee_states", None, "obs/gripper_states"],
        "embodiment": robot(9, 7),
        **changes,
    }
    return HDF5Config.model_validate(given)


def test_demonstrations_of_robomimic_in_the_order_of_their_numbers(libero: Path) -> None:
    dataset = settings(libero).build()
    assert [len(dataset[position]) for position in range(len(dataset))] == list(LENGTHS)
    episode = dataset[1]
    assert episode.name == "pick_up_the_bowl_demo.hdf5:data/demo_10"
    assert set(episode.instructions) == {"pick up the bowl"}
    np.testing.assert_array_equal(episode.actions, np.full((5, 7), 10, np.float32))
    assert episode.states is not None
    np.testing.assert_array_equal(episode.states[1], [6, 7, 8, 9, 10, 11, 0, 1, 1])
    assert episode.images["primary"].dtype.itemsize == 16
    for frame, address in enumerate(episode.images["primary"]):
        np.testing.assert_array_equal(dataset.image(address), pictures(5, seed=10)[frame])
    camera = dataset.describe().robot
    assert camera is not None
    assert (camera.cameras["primary"].height, camera.cameras["primary"].width) == (8, 10)


def test_pictures_can_be_turned(libero: Path) -> None:
    dataset = settings(libero, rotate=180).build()
    turned = dataset.image(dataset[0].images["primary"][2])
    np.testing.assert_array_equal(turned, np.rot90(pictures(3, seed=2)[2], 2))


def test_it_keeps_to_the_interface(libero: Path) -> None:
    check_dataset(settings(libero))


def aloha(path: Path, *, length: int, action: str = "action") -> None:
    """One episode per file, pictures as JPEG padded to one length."""
    encoded = [simplejpeg.encode_jpeg(one) for one in pictures(length, seed=length)]
    longest = max(map(len, encoded))
    padded = [np.frombuffer(one.ljust(longest + 7, b"\0"), np.uint8) for one in encoded]
    with h5py.File(path, "w") as file:
        file.attrs["compress"] = True
        file[action] = np.zeros((length, 14), np.float32)
        file["observations/qpos"] = np.ones((length, 14), np.float32)
        file["observations/images/cam_high"] = np.stack(padded)


def test_episodes_of_aloha_with_compressed_pictures(tmp_path: Path) -> None:
    for number, length in enumerate(LENGTHS):
        aloha(tmp_path / f"episode_{number}.hdf5", length=length)
    config = settings(
        tmp_path,
        cameras={"primary": "observations/images/cam_high"},
        state=["observations/qpos"],
        action="action",
        instruction="fold the shirt",
        embodiment=robot(14, 14),
        split="train[1:]",
    )
    dataset = config.build()
    assert len(dataset) == 1
    assert dataset[0].instructions == ["fold the shirt"] * 5
    stored = simplejpeg.encode_jpeg(pictures(5, seed=5)[4])
    np.testing.assert_array_equal(
        decode(dataset.image(dataset[0].images["primary"][4])), simplejpeg.decode_jpeg(stored)
    )
    with pytest.raises(DataError, match="does not say what the robot was told"):
        config.model_copy(update={"instruction": None}).build()[0]


def damage(path: Path, key: str, value: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data/demo_2/actions", None, r"episode data/demo_2, 'actions': there is no such data set"),
        ("data/demo_2/obs/agentview_rgb", np.zeros((2, 8, 10, 3), np.uint8), "2 frames, the actions have 3"),
        ("data/demo_2/obs/ee_states", np.full((3, 6), np.nan), "frame 0, 'obs/ee_states': expected finite"),
    ],
)
def test_damaged_episodes_are_named(libero: Path, key: str, value: Any, message: str) -> None:
    damage(libero, key, value)
    with pytest.raises(DataError, match=message):
        settings(libero).build()[0]


def test_what_is_no_picture_is_named(libero: Path) -> None:
    damage(libero, "data/demo_2/obs/agentview_rgb", np.zeros((3, 8, 10), np.float32))
    with pytest.raises(DataError, match=r"frame 0, 'obs/agentview_rgb': expected uint8"):
        settings(libero).build().describe()


def test_files_that_are_missing_or_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="holds no"):
        settings(tmp_path).build()
    with pytest.raises(MissingFile, match="does not exist"):
        settings(tmp_path / "absent.hdf5").build()
    (tmp_path / "x.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match="not a whole HDF5 file"):
        settings(tmp_path).build()


def test_the_robot_must_be_given_and_must_fit(libero: Path) -> None:
    with pytest.raises(RecipeError, match=r"^embodiment: .*bowl_demo\.hdf5: HDF5 files do not say"):
        settings(libero, embodiment=None).build()
    with pytest.raises(ContractMismatch, match="the state has 9 numbers, the embodiment describes 4"):
        settings(libero, embodiment=robot(4, 7)).build()[0]


def test_a_file_that_is_edited_in_place_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "long.hdf5"
    aloha(path, length=40)
    with h5py.File(path, "a") as file:
        file["padding"] = np.zeros(300_000, np.uint8)  # what is edited lies far from both ends of the file
        file["action_copy"] = np.zeros((40, 14), np.float32)
        file["more_padding"] = np.zeros(300_000, np.uint8)
        place = file["action_copy"].id.get_offset()
    config = settings(
        path,
        cameras={"primary": "observations/images/cam_high"},
        state=[],
        action="action_copy",
        instruction="wait",
        embodiment=robot(0, 14),
    )
    before = config.build().describe().fingerprint
    assert config.build().describe().fingerprint == before
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(np.ones(1, np.float32).tobytes())
    assert path.stat().st_size == size
    assert config.build().describe().fingerprint != before
