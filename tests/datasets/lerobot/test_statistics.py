from __future__ import annotations

import numpy as np
import pytest

from openvla_toolkit.datasets.lerobot.statistics import PixelCounts, column_statistics, sampled_frames


def test_columns_of_numbers() -> None:
    values = np.arange(12, dtype=np.int64).reshape(6, 2)
    found = column_statistics(values)
    assert found["min"] == [0, 1]
    assert found["mean"] == [5, 6]
    assert found["q50"] == [5, 6]
    assert found["count"] == [6]
    assert column_statistics(np.array([2.0, 4.0]))["std"] == [1.0]


@pytest.mark.parametrize(("length", "count"), [(1, 1), (99, 99), (500, 105), (10_000, 1000)])
def test_as_many_frames_are_looked_at_as_lerobot_does(length: int, count: int) -> None:
    frames = sampled_frames(length)
    assert (len(frames), frames[0], frames[-1]) == (count, 0, length - 1)
    assert (np.diff(frames) > 0).all()


def test_pictures_merge_exactly() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), np.uint8)
    whole, left, right = PixelCounts(), PixelCounts(), PixelCounts()
    for number, picture in enumerate(pictures):
        whole.add(picture)
        (left if number < 2 else right).add(picture)
    left.merge(PixelCounts.from_json(right.to_json()))
    assert left.statistics() == whole.statistics()
    values = pictures.reshape(-1, 3) / 255
    for name, expected in {"mean": values.mean(axis=0), "std": values.std(axis=0)}.items():
        np.testing.assert_allclose(np.ravel(whole.statistics()[name]), expected)
    for name, share in {"q01": 0.01, "q90": 0.9}.items():
        expected = np.quantile(values, share, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(np.ravel(whole.statistics()[name]), expected)


def test_large_pictures_are_thinned_out() -> None:
    counts = PixelCounts()
    counts.add(np.zeros((480, 640, 3), np.uint8))
    assert counts.counts.sum() == 3 * 120 * 160
