"""From an indexed data set to one HTML file."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from openvla_toolkit.core.pages.rendering import write_page
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.data_card.card import DataCard
from openvla_toolkit.pipeline.data_card.concerns import concerns
from openvla_toolkit.pipeline.data_card.facts import facts, title
from openvla_toolkit.pipeline.data_view.episodes import chosen, show
from openvla_toolkit.pipeline.data_view.histograms import distributions
from openvla_toolkit.pipeline.data_view.tokens import VOCABULARY
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["write_view"]


def write_view(
    target: Path, *, card: DataCard, dataset: Dataset[Episode], index: EpisodeIndex, episodes: int = 8
) -> None:
    """Write the page: the card with its concerns, the distributions, and some episodes.

    Raises:
        StorageError: the page cannot be written.
    """
    measures = {vector: list(some) for vector, some in groupby(card.measures, key=lambda one: one.vector)}
    charts = distributions(index.actions, measures["action"])
    if index.states is not None and "state" in measures:
        charts += distributions(index.states, measures["state"])
    shown = [show(dataset, index, card.statistics, card.robot, number) for number in chosen(index, episodes)]
    content = {
        "title": card.name,
        "subtitle": title(card),
        "concerns": concerns(card),
        "facts": list(facts(card)),
        "card": card,
        "charts": charts,
        "episodes": shown,
        "vocabulary": VOCABULARY,
    }
    write_page(target, package=__package__, template="view.html.jinja", content=content)
