from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.statistics import normalize
from openvla_toolkit.pipeline.data_view.episodes import FRAMES, chosen, show
from openvla_toolkit.pipeline.data_view.histograms import distributions
from openvla_toolkit.pipeline.data_view.page import write_view
from openvla_toolkit.pipeline.data_view.tokens import tokens_of
from openvla_toolkit.pipeline.index import EpisodeIndex, build_index
from tests.pipeline.data_card.made import Made, card_of

OPEN_ENDED = {"meta", "img", "input", "line"}


class Page(HTMLParser):
    """What a browser would find in a page; an element that is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in OPEN_ENDED:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(made: Made, folder: Path, *, episodes: int = 8) -> str:
    card = card_of(made, folder)
    index = EpisodeIndex(folder / "index")
    write_view(folder / "view.html", card=card, dataset=made, index=index, episodes=episodes)
    return (folder / "view.html").read_text()


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    text = written(Made(), tmp_path)
    page = Page(text)
    assert len(text) < 1_000_000
    sources = [one["src"] or "" for one in page.all("img")]
    assert len(sources) == 3
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as strip:
            assert strip.size == (FRAMES * 162 - 2, 120)
    assert not re.findall(r"https?:|@import|url\(", text)
    assert all("src" not in one for one in page.all("script"))
    assert all((one["href"] or "").startswith("#") for one in page.all("a"))


def test_every_link_and_label_has_its_target(tmp_path: Path) -> None:
    page = Page(written(Made(), tmp_path))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {(one["href"] or "")[1:] for one in page.all("a")} <= ids
    assert {one["for"] for one in page.all("label")} <= ids
    assert all(one["alt"] for one in page.all("img"))
    assert all(one["aria-label"] for one in page.all("svg"))
    assert [(one["type"], one["max"]) for one in page.all("input")] == [
        ("range", "19"), ("range", "29"), ("range", "39"),
    ]  # fmt: skip


def test_what_robots_are_told_cannot_change_the_page(tmp_path: Path) -> None:
    made = Made()
    made.texts = [f"<script>alert({text!r})</script>" for text in made.texts]
    text = written(made, tmp_path)
    assert len(Page(text).all("script")) == 1
    assert "&lt;script&gt;alert(" in text


def test_concerns_stand_first_with_their_lines(tmp_path: Path) -> None:
    made = Made()
    made.actions[2:20, :2] = 0
    text = written(made, tmp_path)
    assert (
        text.index("Nothing moves in") < text.index("transforms: [{name: skip-idle") < text.index("Data card")
    )
    assert "Nothing to look after" in written(Made(), tmp_path / "other")


def test_a_damaged_picture_is_shown_as_that(tmp_path: Path) -> None:
    made = Made()
    made.pictures = {0: b"no picture"}
    text = written(made, tmp_path)
    assert "cannot decode 10 bytes" in text
    assert len(Page(text).all("img")) == 2


def test_an_episode_of_one_frame_can_be_shown(tmp_path: Path) -> None:
    page = Page(written(Made(lengths=(1, 20)), tmp_path))
    assert "disabled" in page.all("input")[0]
    assert "disabled" not in page.all("input")[1]


def test_curves_bands_and_tokens_are_those_of_the_episode(tmp_path: Path) -> None:
    made = Made()
    made.keep = np.arange(90) % 20 >= 5
    made.actions[20:50, 1] = 0.5
    card = card_of(made, tmp_path)
    index = EpisodeIndex(tmp_path / "index")
    shown = show(made, index, card.statistics, made.robot, 1)
    assert (shown.frames, shown.seconds, list(shown.instructions)) == (30, 6.0, ["do 1"])
    assert (shown.at[0], shown.at[-1], len(shown.at)) == (0, 29, FRAMES)
    assert [(one.vector, one.name) for one in shown.curves] == [
        ("action", "x"), ("action", "gripper"), ("state", "height"), ("state", "grip"),
    ]  # fmt: skip
    assert list(shown.constant) == [("action y", 0.5)]
    assert list(shown.bands) == [
        ("gripper open", "open", [(0, 15)]),
        ("no sample", "idle", [(0, 5), (20, 25)]),
    ]
    assert np.array_equal(shown.actions, made.actions[20:50][list(shown.at)])


def test_tokens_read_back_within_half_a_bin(tmp_path: Path) -> None:
    made = Made()
    moments = card_of(made, tmp_path).statistics.action
    tokens = tokens_of(made.actions, moments)
    assert np.array_equal(tokens.normalized, normalize(made.actions, moments, Normalization()))
    assert ((tokens.ids >= 31_744) & (tokens.ids < 32_000)).all()
    inside = np.abs(tokens.normalized) < 1
    half = (moments.q99 - moments.q01) / 2 / 255
    assert (
        np.abs(tokens.back - made.actions)[inside] <= np.broadcast_to(half, inside.shape)[inside] + 1e-9
    ).all()


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 3), (9, 5)])
def test_episodes_are_spread_and_tell_different_things(tmp_path: Path, count: int, expected: int) -> None:
    made = Made(lengths=(3, 3, 3, 3, 3))
    made.texts = ["a"] * 9 + ["b"] * 3 + ["c"] * 3
    index = build_index(made, tmp_path / "index")
    episodes = chosen(index, count)
    assert episodes == sorted(set(episodes))
    assert len(episodes) == expected
    if count == 3:
        assert {made.texts[3 * episode] for episode in episodes} == {"a", "b", "c"}


def test_a_histogram_leaves_far_outliers_out_and_says_so(tmp_path: Path) -> None:
    made = Made(lengths=(1000,))
    made.actions[17, 0] = 500
    made.actions[:, 1] = 1
    card = card_of(made, tmp_path)
    charts = distributions(made.actions, [one for one in card.measures if one.vector == "action"])
    assert [(one.measure.name, one.outside > 0) for one in charts] == [("x", True), ("gripper", False)]
    assert str(charts[0].svg).count('class="mark"') == 2
