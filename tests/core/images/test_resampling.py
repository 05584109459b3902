"""Resizing and cropping: against Pillow, against plain loops, and what must hold for any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import ROUNDED, resampled, to_pixels
from openvla_toolkit.core.images.resampling import (
    WHOLE,
    crop_and_resize,
    lanczos3,
    resize_depth,
    resize_lanczos3,
    smooth,
)
from tests.core.images import plain

SIDES = st.integers(1, 40)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(17, 23), (64, 30), (31, 80), (1, 1), (9, 300)])
def test_lanczos_is_that_of_pillow(size: tuple[int, int]) -> None:
    picture = noise(31, 47)
    levels = lanczos3(picture, size).transpose(2, 0, 1)
    np.testing.assert_allclose(levels, plain.lanczos(picture, size), rtol=0, atol=2e-3)


@given(SIDES, SIDES, SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_any_size_becomes_any_size(height: int, width: int, rows: int, columns: int) -> None:
    picture = noise(height, width)
    made = resize_lanczos3(picture, (rows, columns))
    assert made.shape == (rows, columns, 3)
    assert made.dtype == np.uint8
    for canvas in (
        crop_and_resize(picture, WHOLE, (rows, columns)),
        smooth(picture, (0.1, 0.2, 0.8, 0.9), (rows, columns)),
    ):
        assert canvas.shape == (columns, 3, rows)
        assert canvas.min() >= picture.min() - 1e-3
        assert canvas.max() <= picture.max() + 1e-3


@pytest.mark.parametrize("level", [0, 77, 255])
def test_one_colour_stays_it(level: int) -> None:
    picture = np.full((50, 33, 3), level, dtype=np.uint8)
    assert (resize_lanczos3(picture, (20, 70)) == level).all()
    assert (to_pixels(smooth(picture, (0.3, 0.1, 0.7, 0.8), (20, 70)), *ROUNDED) == level).all()


def test_the_same_size_and_the_whole_picture_change_nothing() -> None:
    picture = noise(18, 35)
    assert resize_lanczos3(picture, (18, 35)) is picture
    for canvas in (crop_and_resize(picture, WHOLE, (18, 35)), smooth(picture, WHOLE, (18, 35))):
        np.testing.assert_array_equal(to_pixels(canvas, *ROUNDED), picture)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.1, 0.5), st.floats(0.1, 0.5))
@settings(max_examples=20, deadline=None)
def test_a_crop_is_what_plain_loops_make(top: float, left: float, height: float, width: float) -> None:
    picture, box = noise(19, 26), (top, left, top + height, left + width)
    found = crop_and_resize(picture, box, (11, 14)).transpose(2, 0, 1)
    np.testing.assert_allclose(found / 255, plain.crop(picture / 255, box, (11, 14)), rtol=0, atol=2e-6)


def test_one_step_looks_where_two_look() -> None:
    ramp = np.arange(0, 240, dtype=np.uint8)
    picture = np.stack(
        [np.broadcast_to(ramp, (240, 240)), np.broadcast_to(ramp[:, None], (240, 240))] * 2, -1
    )
    picture, box = np.ascontiguousarray(picture[..., :3]), (0.1, 0.2, 0.7, 0.6)
    two = crop_and_resize(resize_lanczos3(picture, (60, 60)), box, (60, 60))
    np.testing.assert_allclose(smooth(picture, box, (60, 60)), two, rtol=0, atol=0.75)


def test_one_step_is_antialiased() -> None:
    stripes = np.zeros((240, 240, 3), dtype=np.uint8)
    stripes[::2] = 255
    made = smooth(stripes, (0.05, 0.05, 0.95, 0.95), (60, 60))
    assert np.abs(made - 127.5).max() < 4


def test_a_read_only_or_turned_picture_is_as_good() -> None:
    picture = noise(20, 30)
    locked, turned = picture.copy(), np.ascontiguousarray(picture.transpose(1, 0, 2)).transpose(1, 0, 2)
    locked.flags.writeable = False
    for other in (locked, turned):
        np.testing.assert_array_equal(resize_lanczos3(other, (9, 9)), resize_lanczos3(picture, (9, 9)))


def test_rows_and_columns_are_weighted_sums() -> None:
    picture = noise(4, 3)
    rows = np.array([0, 2]), np.array([[0.25, 0.75], [1, 0]], dtype=np.float32)
    columns = np.array([1]), np.array([[0.5, 0.5]], dtype=np.float32)
    levels = picture.astype(float)
    wanted = np.stack([0.25 * levels[0] + 0.75 * levels[1], levels[2]])[:, 1:].mean(axis=1)
    np.testing.assert_allclose(resampled(picture, *rows, *columns)[0].T, wanted, rtol=1e-6)


@pytest.mark.parametrize("size", [(30, 20), (7, 5), (61, 90)])
def test_depth_keeps_its_range(size: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).uniform(0.3, 4.0, (30, 20)).astype(np.float32)
    made = resize_depth(depth, size)
    assert (made.shape, made.dtype) == (size, np.float32)
    assert depth.min() - 1e-6 <= made.min() <= made.max() <= depth.max() + 1e-6
    if size == depth.shape:
        np.testing.assert_allclose(made, depth, rtol=1e-6)
