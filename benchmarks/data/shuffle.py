"""How well orders of samples mix, against what a shuffle buffer does with episodes that come one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row
from openvla_toolkit.core.data_sections import Shuffle
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source

__all__ = ["Mixing", "Recorded", "drawn", "measure", "mixing", "recorded", "through_buffer"]

FRAMES = 1_000_000
BUFFER = 10_000
BATCH, BATCHES = 256, 400
SHARD = 100
"""Episodes of a file."""
PICTURE = Path(__file__).parents[2] / "docs" / "explanation" / "shuffle-quality.svg"


class Recorded(NamedTuple):
    """F frames of a made-up data set, in the order in which they lie in files."""

    episodes: NDArray[np.int64]
    """[F] which episode a frame belongs to."""
    actions: NDArray[np.float64]
    """[F, 7]; half of the variance lies between episodes."""


class Mixing(NamedTuple):
    """What an order of samples does to batches."""

    together: float
    """How often two samples of a batch are of one episode, as a multiple of a perfect shuffle's share."""
    variance: float
    """Variance of a batch's mean action, as a multiple of that of independent draws."""
    drift: float
    """Correlation of the mean actions of batches that follow each other."""


def recorded(frames: int = FRAMES) -> Recorded:
    """Return episodes of 50 to 149 frames."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(50, 150, frames // 50)
    episodes = np.repeat(np.arange(len(lengths)), lengths)[:frames]
    means = generator.normal(size=(len(lengths), 7))
    return Recorded(episodes, means[episodes] + generator.normal(size=(frames, 7)))


def drawn(shuffle: Shuffle, size: int, *, count: int, start: int) -> NDArray[np.int64]:
    """Return which frames the toolkit draws as samples ``start`` to ``start + count``."""
    sampler = MixtureSampler([Source(size, 1.0)], seed=7, shuffle=shuffle)
    return np.array([sampler.pick(number).position for number in range(start, start + count)])


def through_buffer(episodes: NDArray[np.int64], *, buffer: int, count: int, start: int) -> NDArray[np.int64]:
    """Return which frames come out of a shuffle buffer as samples ``start`` to ``start + count``.

    Files come in random order, their episodes as they lie, one after the other (the original's interleave of
    one thread per data set); each sample is drawn from the buffer, and the next frame takes its place.
    """
    generator = np.random.default_rng(7)
    files = episodes // SHARD
    order = np.argsort(generator.permutation(files.max() + 1)[files], kind="stable")
    held, slots = order[:buffer].tolist(), generator.integers(0, buffer, start + count).tolist()
    out = []
    for slot, following in zip(slots, order[buffer : buffer + start + count].tolist(), strict=True):
        out.append(held[slot])
        held[slot] = following
    return np.array(out[start:])


def mixing(positions: NDArray[np.int64], data: Recorded) -> Mixing:
    """Measure a run of samples."""
    batches = positions[: len(positions) // BATCH * BATCH].reshape(-1, BATCH)
    pairs = np.mean([_pairs(data.episodes[batch]) for batch in batches])
    means = data.actions[batches].mean(axis=1)
    return Mixing(
        together=float(pairs) / _pairs(data.episodes),
        variance=float(np.mean(BATCH * means.var(axis=0) / data.actions.var(axis=0))),
        drift=_correlation(means[:-1], means[1:]),
    )


def measure(*, frames: int = FRAMES, picture: Path | None = PICTURE) -> list[Row]:
    """Compare the toolkit's two orders with a buffer of 10,000 frames, and draw the result."""
    data, count, start = recorded(frames), BATCH * BATCHES, frames // 4
    orders = {
        "global shuffle": drawn(Shuffle(name="global"), frames, count=count, start=start),
        "shuffle by blocks": drawn(Shuffle(name="blocks"), frames, count=count, start=start),
    }
    peer = mixing(through_buffer(data.episodes, buffer=BUFFER, count=count, start=start), data)
    found = {name: mixing(positions, data) for name, positions in orders.items()}
    if picture is not None:
        picture.write_text(_drawing({**found, f"buffer of {BUFFER:,} frames": peer}))
    return [row for name, mixed in found.items() for row in _rows(name, mixed, peer, frames=frames)]


def _pairs(episodes: NDArray[np.int64]) -> float:
    """Return the share of pairs that are of one episode."""
    counts = np.bincount(np.unique(episodes, return_inverse=True)[1])
    return float((counts * (counts - 1)).sum() / (len(episodes) * (len(episodes) - 1)))


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the mean correlation over the numbers of an action."""
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)]))


def _rows(name: str, mixed: Mixing, peer: Mixing, *, frames: int) -> list[Row]:
    limits = {
        "global shuffle": (1.1, "<= 1.1 x a perfect shuffle", mixed.together),
        "shuffle by blocks": (0.5, "ratio <= 0.5", mixed.together / peer.together),
    }
    limit, target, figure = limits[name]
    settings = {"frames": frames, "batch": BATCH, "batches": BATCHES, "peer": "simulated, see through_buffer"}
    if name == "shuffle by blocks":
        settings |= {"block": Shuffle().block, "window": Shuffle().window}
    with_buffer = f"shuffle buffer of {BUFFER:,} frames"
    return [
        Row(
            name=f"two samples of a batch from one episode, {name}",
            value=mixed.together,
            unit="x a perfect shuffle",
            peer=with_buffer,
            peer_value=peer.together,
            target=target,
            met=figure <= limit,
            settings=settings,
        ),
        Row(
            name=f"variance of a batch's mean action, {name}",
            value=mixed.variance,
            unit="x independent draws",
            peer=with_buffer,
            peer_value=peer.variance,
            target="ratio <= 1",
            met=mixed.variance <= peer.variance,
            settings=settings,
        ),
        Row(
            name=f"correlation of successive batches' mean action, {name}",
            value=mixed.drift,
            unit="",
            peer=with_buffer,
            peer_value=peer.drift,
            target="ratio <= 0.5",
            met=mixed.drift <= 0.5 * peer.drift,
            settings=settings,
        ),
    ]


def _drawing(found: dict[str, Mixing]) -> str:
    """Return bars as SVG: how often a batch repeats an episode, how its mean drifts from batch to batch."""
    largest = max(mixed.together for mixed in found.values())
    upper = [(name, mixed.together / largest, f"{mixed.together:.2g} x") for name, mixed in found.items()]
    lower = [(name, max(mixed.drift, 0.0), f"{mixed.drift:.2f}") for name, mixed in found.items()]
    titles = (
        "Two samples of a batch from one episode, against a perfect shuffle",
        "Correlation of the mean actions of successive batches",
    )
    parts = [_panel(title, bars, y) for title, bars, y in zip(titles, (upper, lower), (10, 125), strict=True)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="Shuffle quality">\n'
        '<rect width="640" height="240" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(title: str, bars: Sequence[tuple[str, float, str]], top: int) -> str:
    lines = [f'<text x="10" y="{top + 13}" font-weight="bold" fill="#222222">{title}</text>']
    for number, (name, share, label) in enumerate(bars):
        y, width = top + 24 + 27 * number, max(2.0, 360 * share)
        colour = "#b3402a" if number == len(bars) - 1 else "#2f6f9f"
        lines.append(f'<text x="10" y="{y + 14}" fill="#222222">{name}</text>')
        lines.append(f'<rect x="200" y="{y}" width="{width:.1f}" height="19" fill="{colour}"/>')
        lines.append(f'<text x="{208 + width:.1f}" y="{y + 14}" fill="#222222">{label}</text>')
    return "\n".join(lines)
