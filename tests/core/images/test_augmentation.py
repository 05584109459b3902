"""What is drawn: a pure function of seed, number and camera, with the original's distributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from openvla_toolkit.core.data_sections import Augment, Operation, RandomCrop
from openvla_toolkit.core.images.augmentation import draw
from openvla_toolkit.core.images.framing import Change

MANY = 2000
ALL = Augment(random_flip_left_right=True, random_flip_up_down=True, random_rot90=True)
NONE = Augment(
    random_resized_crop=None,
    random_brightness=None,
    random_contrast=None,
    random_saturation=None,
    random_hue=None,
)


def drawn(augment: Augment, operation: Operation) -> list[Change]:
    changes = [
        change
        for number in range(MANY)
        for change in draw(augment, seed=3, number=number, camera="primary")
        if change.operation == operation
    ]
    assert changes
    return changes


def values(augment: Augment, operation: Operation) -> NDArray[np.float64]:
    return np.array([change.value for change in drawn(augment, operation)])


@given(st.integers(0, 2**70), st.integers(0, 2**50), st.text(max_size=9))
@settings(max_examples=40)
def test_the_same_is_drawn_again(seed: int, number: int, camera: str) -> None:
    first = draw(ALL, seed=seed, number=number, camera=camera)
    assert first == draw(ALL, seed=seed, number=number, camera=camera)
    assert [change.operation for change in first] == [
        name for name in ALL.order if name in {change.operation for change in first}
    ]


def test_seed_number_and_camera_each_make_another_draw() -> None:
    places = [(0, 1, "a"), (1, 0, "a"), (0, 0, "a"), (0, 0, "b"), (1, 1, "a")]
    found = {str(draw(ALL, seed=seed, number=number, camera=camera)) for seed, number, camera in places}
    assert len(found) == len(places)


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [
        ("random_brightness", -0.2, 0.2),
        ("random_contrast", 0.8, 1.2),
        ("random_saturation", 0.8, 1.2),
        ("random_hue", -0.05, 0.05),
    ],
)
def test_colours_are_uniform_over_their_range(operation: Operation, low: float, high: float) -> None:
    shares = np.sort((values(ALL, operation) - low) / (high - low))
    assert len(shares) == MANY
    assert np.abs(shares - np.arange(MANY) / MANY).max() < 0.04, "Kolmogorov's distance"


def test_operations_are_independent() -> None:
    together = np.corrcoef([values(ALL, name) for name in ALL.order[4:]])
    assert np.abs(together - np.eye(4)).max() < 0.08


def test_crops_lie_on_the_diagonal_and_keep_nine_tenths() -> None:
    boxes = np.array([change.box for change in drawn(ALL, "random_resized_crop")])
    top, left, bottom, right = boxes.T
    np.testing.assert_array_equal(top, left)
    np.testing.assert_allclose((bottom - top) * (right - left), 0.9)
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert np.abs(np.sort(top / (1 - 0.9**0.5)) - np.arange(MANY) / MANY).max() < 0.04


def test_one_number_decides_all_of_a_crop() -> None:
    augment = Augment(random_resized_crop=RandomCrop(scale=(0.25, 1.0), ratio=(0.5, 2.0)))
    for change in drawn(augment, "random_resized_crop"):
        top, left, bottom, right = change.box
        height, width = bottom - top, right - left
        assert 0 < height <= 1
        assert 0 < width <= 1
        if height < 1 and width < 1:
            area, ratio = height * width, width / height
            share = (area - 0.25) / 0.75
            np.testing.assert_allclose(np.log(ratio), (2 * share - 1) * np.log(2), atol=1e-6)
            np.testing.assert_allclose([top, left], [share * (1 - height), share * (1 - width)], atol=1e-6)


@pytest.mark.parametrize("operation", ["random_flip_left_right", "random_flip_up_down"])
def test_half_of_the_pictures_are_mirrored(operation: Operation) -> None:
    assert abs(len(drawn(ALL, operation)) / MANY - 0.5) < 0.05


def test_quarter_turns_are_equally_often() -> None:
    counts = np.bincount(values(ALL, "random_rot90").astype(int), minlength=4)
    assert len(counts) == 4
    assert np.abs(counts / MANY - 0.25).max() < 0.04


def test_nothing_is_drawn_of_what_is_off() -> None:
    assert draw(NONE, seed=0, number=0, camera="primary") == []


def test_switching_one_off_leaves_the_others() -> None:
    without = ALL.model_copy(update={"random_contrast": None})
    for number in range(20):
        before = draw(ALL, seed=1, number=number, camera="wrist")
        after = draw(without, seed=1, number=number, camera="wrist")
        assert after == [change for change in before if change.operation != "random_contrast"]


def test_the_order_is_that_of_the_settings() -> None:
    order: tuple[Operation, ...] = ("random_resized_crop", "random_hue", "random_brightness")
    augment = Augment(random_contrast=None, random_saturation=None, order=order)
    assert tuple(change.operation for change in draw(augment, seed=0, number=0, camera="a")) == order


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Augment(order=("random_resized_crop", "random_hue")), "'order' lacks random_brightness"),
        (lambda: Augment(order=(*Augment().order, "random_hue")), "names an operation twice"),
        (lambda: Augment(order=Augment().order[::-1]), "must begin with random_resized_crop"),
        (lambda: Augment(random_contrast=(1.2, 0.8)), "goes from a number to one that is no smaller"),
        (lambda: RandomCrop(scale=(0.5, 1.5)), "at most at 1"),
        (lambda: RandomCrop(ratio=(0.0, 1.0)), "'ratio' above 0"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
