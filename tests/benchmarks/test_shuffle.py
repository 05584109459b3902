"""The measure of mixing tells a perfect shuffle from none, and the simulated buffer is a buffer."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.data.shuffle import drawn, measure, mixing, recorded, through_buffer
from openvla_toolkit.core.data_sections import Shuffle

DATA = recorded(60_000)


def test_a_perfect_shuffle_measures_as_one() -> None:
    found = mixing(np.random.default_rng(1).permutation(60_000), DATA)
    assert found.together == pytest.approx(1, rel=0.1)
    assert found.variance == pytest.approx(1, rel=0.15)
    assert abs(found.drift) < 0.15


def test_no_shuffle_measures_as_many() -> None:
    found = mixing(np.arange(60_000), DATA)
    assert found.together > 100
    assert found.variance > 20


def test_a_buffer_draws_every_frame_at_most_once_and_none_from_ahead() -> None:
    out = through_buffer(DATA.episodes, buffer=100, count=2000, start=0)
    assert len(set(out.tolist())) == len(out)
    files = DATA.episodes // 100
    order = np.argsort(np.random.default_rng(7).permutation(files.max() + 1)[files], kind="stable")
    read = np.empty(60_000, np.int64)
    read[order] = np.arange(60_000)
    assert (read[out] <= np.arange(2000) + 100).all()


@pytest.mark.parametrize("shuffle", [Shuffle(), Shuffle(name="blocks", block=50, window=8)])
def test_our_orders_are_drawn_from_the_sampler(shuffle: Shuffle) -> None:
    positions = drawn(shuffle, 5000, count=5000, start=5000)
    assert sorted(positions.tolist()) == list(range(5000))
    assert np.array_equal(drawn(shuffle, 5000, count=10, start=7000), positions[2000:2010])


def test_the_figures_become_rows_and_a_picture(tmp_path: Path) -> None:
    rows = measure(frames=250_000, picture=tmp_path / "quality.svg")
    assert [row.met for row in rows if row.name.endswith("global shuffle")] == [True] * 3
    picture = ElementTree.parse(tmp_path / "quality.svg").getroot()
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert f"{rows[0].peer_value:.2g} x" in labels
    assert labels.count("shuffle by blocks") == 2
