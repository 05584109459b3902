from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.statistics import Moments, Statistics
from openvla_toolkit.core.types import Observation
from openvla_toolkit.testing import DotsRobotConfig, tiny_policy

Openvla = Callable[..., tuple[int, str, str]]


def statistics(width: int) -> Statistics:
    low, high = np.full(width, -2.0), np.full(width, 2.0)
    moments = Moments(mean=low, std=high, max=high, min=low, q01=low, q99=high, mask=np.ones(width, bool))
    return Statistics(action=moments, proprio=None, num_transitions=10, num_trajectories=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a policy with two cameras and two sets of statistics."""
    torch.manual_seed(0)
    robot = DotsRobotConfig().build()
    width = len(robot.action)
    known = {"dots": statistics(width), "other": statistics(width)}
    folder = tmp_path_factory.mktemp("policy")
    cameras = list(robot.cameras)[:1]
    tiny_policy(cameras=cameras).build(robot=robot, statistics=known).save(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    return path


def test_an_action_is_printed_with_names(openvla: Openvla, checkpoint: Path, picture: Path) -> None:
    words = ["--image", str(picture), "--instruction", "go left", "--unnorm-key", "dots"]
    code, out, err = openvla("predict", str(checkpoint), *words)
    assert (code, err) == (0, "")
    policy = load_policy(checkpoint)
    shown = Observation(
        images={policy.contract.cameras[0]: np.asarray(Image.open(picture))}, instruction="go left"
    )
    (chunk,) = policy.predict_chunks([shown], unnorm_key="dots")
    assert [float(line.split()[-1]) for line in out.splitlines()] == pytest.approx(
        chunk.actions[0].tolist(), abs=1e-6
    )
    assert out.split()[0] == policy.contract.robot.action[0].name
    as_json = json.loads(openvla("predict", str(checkpoint), *words, "--json")[1])
    assert chunk.tokens is not None
    assert as_json == {"actions": chunk.actions.tolist(), "tokens": chunk.tokens.tolist()}
    named = ["--image", f"{policy.contract.cameras[0]}={picture}", *words[2:]]
    assert openvla("predict", str(checkpoint), *named)[1] == out


def test_the_keys_are_listed_when_one_is_needed(openvla: Openvla, checkpoint: Path, picture: Path) -> None:
    code, _, err = openvla("predict", str(checkpoint), "--image", str(picture), "--instruction", "go")
    assert code == 2
    assert "unnorm_key is needed" in err
    assert "dots (" in err
    assert "other (" in err


def test_pictures_that_cannot_be_used_are_named(openvla: Openvla, checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    told = ["--instruction", "go", "--unnorm-key", "dots"]
    for given, message in [
        (text, "notes.txt is no picture that Pillow can read"),
        (tmp_path / "gone.png", "there is no picture"),
        (tmp_path, "cannot be read"),
    ]:
        code, _, err = openvla("predict", str(checkpoint), "--image", str(given), *told)
        assert code == 2
        assert message in err


def test_cameras_must_be_those_of_the_policy(openvla: Openvla, checkpoint: Path, picture: Path) -> None:
    told = ["--instruction", "go", "--unnorm-key", "dots"]
    for images in (["--image", f"left={picture}"], ["--image", str(picture), "--image", str(picture)]):
        code, _, err = openvla("predict", str(checkpoint), *images, *told)
        assert code == 2
        assert "the policy looks at 1 camera(s): give --image" in err


def test_a_picture_of_another_size_is_refused(openvla: Openvla, checkpoint: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.new("RGB", (60, 40)).save(wide)
    told = ["--image", str(wide), "--instruction", "go", "--unnorm-key", "dots"]
    code, _, err = openvla("predict", str(checkpoint), *told)
    assert code == 2
    assert "is 40 x 60 pixels (height x width), and the policy was trained on 32 x 32" in " ".join(
        err.split()
    )


def test_an_unknown_checkpoint_is_said_before_anything_is_read(openvla: Openvla, picture: Path) -> None:
    code, _, err = openvla("predict", "nonsense", "--image", str(picture), "--instruction", "go")
    assert code == 2
    assert "no policy 'nonsense'" in err
