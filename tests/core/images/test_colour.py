"""Colours: against HSV as Python's library counts it, and what must hold for any picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from openvla_toolkit.core.images.canvas import ROUNDED, TRUNCATED, Canvas, to_pixels
from openvla_toolkit.core.images.colour import brighten, contrast, recoloured, saturate, turn_hue
from openvla_toolkit.core.images.resampling import WHOLE, crop_and_resize
from tests.core.images import plain

Pixels = NDArray[np.uint8]
PICTURES = arrays(np.uint8, (5, 7, 3))
OPERATIONS: dict[Callable[[Canvas, float], None], tuple[Callable[..., plain.Numbers], float, float]] = {
    brighten: (plain.brightness, -0.6, 0.6),
    contrast: (plain.contrast, 0.0, 3.0),
    saturate: (plain.saturation, 0.0, 3.0),
    turn_hue: (plain.hue, -0.5, 0.5),
}
NEUTRAL = {brighten: 0.0, contrast: 1.0, saturate: 1.0, turn_hue: 0.0}


def canvas_of(picture: Pixels) -> Canvas:
    return crop_and_resize(picture, WHOLE, picture.shape[:2])


def numbers(canvas: Canvas) -> plain.Numbers:
    return canvas.transpose(2, 0, 1).astype(np.float64) / 255


@pytest.mark.parametrize("operation", OPERATIONS)
@given(picture=PICTURES, share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_one_operation(operation: Callable[[Canvas, float], None], picture: Pixels, share: float) -> None:
    meant, low, high = OPERATIONS[operation]
    value, canvas = low + share * (high - low), canvas_of(picture)
    operation(canvas, value)
    np.testing.assert_allclose(numbers(canvas), meant(picture / 255, value), rtol=0, atol=3e-6)
    assert canvas.min() > -1e-4
    assert canvas.max() < 255 + 1e-4


@pytest.mark.parametrize("operation", NEUTRAL)
@given(picture=PICTURES)
@settings(max_examples=10, deadline=None)
def test_a_neutral_value_changes_nothing(operation: Callable[[Canvas, float], None], picture: Pixels) -> None:
    canvas = canvas_of(picture)
    operation(canvas, NEUTRAL[operation])
    np.testing.assert_array_equal(to_pixels(canvas, *ROUNDED), picture)
    np.testing.assert_array_equal(to_pixels(canvas + 1e-3, *TRUNCATED), picture)


@given(
    picture=PICTURES,
    values=st.tuples(st.floats(-0.4, 0.4), st.floats(0.3, 2), st.floats(0, 2), st.floats(-0.5, 0.5)),
)
@settings(max_examples=60, deadline=None)
def test_all_in_one_is_one_after_the_other(
    picture: Pixels, values: tuple[float, float, float, float]
) -> None:
    canvas = canvas_of(picture)
    for operation, value in zip(OPERATIONS, values, strict=True):
        operation(canvas, value)
    found = recoloured(canvas_of(picture), *values)
    assert np.abs(found - canvas.transpose(2, 0, 1)).max() < 0.5 + 1e-2


def test_grey_black_and_white_have_no_hue() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)
    np.testing.assert_array_equal(recoloured(canvas_of(greys), 0.0, 1.0, 1.7, 0.31), greys)


def test_a_third_of_the_circle_exchanges_the_channels() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (9, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        recoloured(canvas_of(picture), 0.0, 1.0, 1.0, 1 / 3), np.roll(picture, 1, axis=-1)
    )


def test_levels_become_bytes() -> None:
    canvas = np.array([-3, 0, 0.49, 0.5, 99.6, 254.6, 255, 300], dtype=np.float32).reshape(1, 1, 8)
    canvas = np.repeat(canvas, 3, axis=1)
    assert to_pixels(canvas, *ROUNDED)[:, 0, 1].tolist() == [0, 0, 0, 1, 100, 255, 255, 255]
    assert to_pixels(canvas, *TRUNCATED)[:, 0, 1].tolist() == [0, 0, 0, 0, 99, 255, 255, 255]
