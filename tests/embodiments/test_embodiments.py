"""Robots as data."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from openvla_toolkit.core.registry import load
from openvla_toolkit.embodiments import CustomConfig

ROBOTS = ["widowx", "google-robot", "franka-libero"]


@pytest.mark.parametrize("name", ROBOTS)
def test_actions_are_movement_turn_and_gripper(name: str) -> None:
    robot = load("embodiment", name)().build()
    assert len(robot.action) == 7
    assert all(one.reference == "delta" and one.rotation is None for one in robot.action[:3])
    assert all(one.reference == "delta" and one.rotation is not None for one in robot.action[3:6])
    assert (robot.action[6].reference, robot.action[6].gripper) == ("absolute", "open_high")
    assert "primary" in robot.cameras


@pytest.mark.parametrize(
    ("name", "hertz", "size", "states", "rotation"),
    [
        ("widowx", 5, (256, 256), 8, "euler_xyz"),
        ("google-robot", 3, (256, 320), 8, "euler_xyz"),
        ("franka-libero", 20, (256, 256), 9, "axis_angle"),
    ],
)
def test_the_numbers_of_each_robot(
    name: str, hertz: float, size: tuple[int, int], states: int, rotation: str
) -> None:
    robot = load("embodiment", name)().build()
    camera = robot.cameras["primary"]
    assert robot.control_hz == hertz
    assert (camera.height, camera.width) == size
    assert len(robot.state) == states
    assert {one.rotation for one in robot.action[3:6]} == {rotation}


def test_libero_pictures_are_turned_upright() -> None:
    cameras = load("embodiment", "franka-libero")().cameras
    assert {name: camera.rotation for name, camera in cameras.items()} == {"primary": 180, "wrist": 180}


def test_two_configs_share_nothing() -> None:
    first, second = (load("embodiment", "widowx")() for _ in range(2))
    assert first.cameras == second.cameras
    assert first.cameras is not second.cameras


@pytest.mark.parametrize("name", ROBOTS)
def test_any_robot_can_be_written_out_as_a_custom_one(name: str) -> None:
    robot = load("embodiment", name)()
    content = robot.model_dump(mode="json", exclude={"name"})
    assert CustomConfig.model_validate(content).build() == robot.build()


def test_a_custom_robot_needs_its_vectors_and_its_rate() -> None:
    with pytest.raises(ValidationError) as caught:
        CustomConfig.model_validate({"cameras": {}})
    assert {error["loc"] for error in caught.value.errors()} == {("action",), ("control_hz",)}


def test_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, openvla_toolkit.embodiments, openvla_toolkit.transforms, openvla_toolkit.datasets\n"
        "import openvla_toolkit.datasets.rlds.card\n"
        "print({'numpy', 'torch', 'gymnasium', 'simplejpeg', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
