"""Frames of samples: made from bytes, the same for the same number, whoever makes them."""

from __future__ import annotations

import pickle
from typing import Literal

import numpy as np
import pytest

from openvla_toolkit.core.contract import FrameRecipe, ImageRecipe
from openvla_toolkit.core.data_sections import Augment
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.augmentation import draw
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.framing import framed
from openvla_toolkit.pipeline.frames import as_recorded, frame_maker
from openvla_toolkit.testing.fakes.world import jpeg

SIZE = 20
WAYS: list[Literal["original", "fused"]] = ["original", "fused"]
ENCODED = jpeg(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def recipe(way: Literal["original", "fused"] | None) -> ImageRecipe:
    frame = None if way is None else FrameRecipe(resample=way, crop=0.9)
    return ImageRecipe(size=SIZE, means=((0.5, 0.5, 0.5),), stds=((0.5, 0.5, 0.5),), frame=frame)


def test_pictures_stay_as_they_are_unless_the_policy_frames_them() -> None:
    maker = frame_maker(recipe(None), augment=None, seed=0)
    assert maker is as_recorded
    np.testing.assert_array_equal(maker(ENCODED, number=5, camera="primary"), decode(ENCODED))


@pytest.mark.parametrize("way", WAYS)
def test_frames_follow_number_and_camera_alone(way: Literal["original", "fused"]) -> None:
    maker = frame_maker(recipe(way), augment=Augment(), seed=4)
    copy = pickle.loads(pickle.dumps(maker))
    frame = maker(ENCODED, number=7, camera="primary")
    assert (frame.shape, frame.dtype) == ((SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(copy(ENCODED, number=7, camera="primary"), frame)
    others = [(8, "primary", 4), (7, "wrist", 4), (7, "primary", 5)]
    for number, camera, seed in others:
        other = frame_maker(recipe(way), augment=Augment(), seed=seed)
        assert not np.array_equal(other(ENCODED, number=number, camera=camera), frame)


@pytest.mark.parametrize("way", WAYS)
def test_frames_are_what_is_drawn(way: Literal["original", "fused"]) -> None:
    pixels = decode(ENCODED, dct="fast" if way == "original" else "accurate")
    wanted = FrameRecipe(resample=way, crop=0.9)
    changes = draw(Augment(), seed=4, number=7, camera="wrist")
    found = frame_maker(recipe(way), augment=Augment(), seed=4)(ENCODED, number=7, camera="wrist")
    np.testing.assert_array_equal(found, framed(pixels, wanted, size=(SIZE, SIZE), changes=changes))
    still = frame_maker(recipe(way), augment=None, seed=4)(ENCODED, number=7, camera="wrist")
    np.testing.assert_array_equal(still, framed(pixels, wanted, size=(SIZE, SIZE)))


def test_the_original_decodes_as_tensorflow_does() -> None:
    accurate, fast = decode(ENCODED), decode(ENCODED, dct="fast")
    off = np.abs(accurate.astype(int) - fast)
    assert 0 < off.max() < 30


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_are_no_picture_are_said(way: Literal["original", "fused"]) -> None:
    with pytest.raises(DataError, match="cannot decode 7 bytes"):
        frame_maker(recipe(way), augment=Augment(), seed=0)(b"nothing", number=0, camera="primary")
