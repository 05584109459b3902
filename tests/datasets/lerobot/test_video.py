from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.lerobot import video
from openvla_toolkit.datasets.lerobot.video import Decoder, encode_video, read_frame

FPS = 12.5


def picture(number: int) -> NDArray[np.uint8]:
    """A bar at the height of the frame's number: neighbours differ clearly."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[number : number + 8] = 255
    return pixels


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("video") / "file.mp4"
    options = {"crf": "5", "g": "12", "bf": "2"}  # B-frames: stored in another order than shown
    assert (
        encode_video(made, (picture(k) for k in range(40)), fps=FPS, codec="libx264", options=options) == 40
    )
    return made


def number_of(pixels: NDArray[np.uint8]) -> int:
    return int(np.argmax(pixels[:, 0, 0] > 127))


def test_frames_in_any_order_are_those_asked_for(path: Path) -> None:
    decoder = Decoder(path, fps=FPS)
    assert len(decoder) == 40
    order = [0, 1, 2, 39, 38, 5, 6, 30, 11, 12, 13, *np.random.default_rng(0).permutation(40).tolist()]
    assert [number_of(decoder.frame(number)) for number in order] == order


def test_av1_is_written_and_read(tmp_path: Path) -> None:
    made = tmp_path / "file.mp4"
    options = {"crf": "30", "g": "2", "preset": "12"}
    encode_video(made, (picture(k) for k in range(8)), fps=10, codec="libsvtav1", options=options)
    assert [number_of(read_frame(made, number, fps=10)) for number in (7, 0, 3)] == [7, 0, 3]


def test_a_frame_past_the_end_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"file.mp4, frame 40: the video has 40 frames, expected at least 41"):
        read_frame(path, 40, fps=FPS)


def test_another_rate_is_told(path: Path) -> None:
    with pytest.raises(DataError, match=r"shown at 0.8000 s, expected 0.4000 s \(25 frames per second\)"):
        read_frame(path, 10, fps=25)


def test_damaged_and_missing_files_are_named(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"broken.mp4: the video cannot be decoded"):
        read_frame(broken, 0, fps=FPS)
    with pytest.raises(MissingFile, match=r"absent.mp4 does not exist"):
        read_frame(tmp_path / "absent.mp4", 0, fps=FPS)


def test_few_files_stay_open(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "OPEN_DECODERS", 2)
    for number in range(4):
        other = tmp_path / f"{number}.mp4"
        other.write_bytes(path.read_bytes())
        read_frame(other, number, fps=FPS)
    assert [opened.name for opened, _ in video._decoders] == ["2.mp4", "3.mp4"]


def test_odd_or_changing_sizes_are_refused(tmp_path: Path) -> None:
    def encode(*shapes: tuple[int, int]) -> None:
        frames = (np.zeros((*shape, 3), np.uint8) for shape in shapes)
        encode_video(tmp_path / "x.mp4", frames, fps=10, codec="libx264", options={})

    with pytest.raises(DataError, match="both sides must be even"):
        encode((63, 64))
    with pytest.raises(DataError, match=r"frame 1: a picture is 32 x 64, the first 64 x 64"):
        encode((64, 64), (64, 32))
    with pytest.raises(DataError, match="no frame to write"):
        encode()
