"""Frames per second of an RLDS set: decoded, resized, augmented; beside the same work in tf.data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from benchmarks.data.generated import EPISODES, FRAMES, SIZE, data_folder, rlds_set, scratch
from benchmarks.data.peers import figure
from benchmarks.data.throughput import BATCH, SECONDS, WORKERS, frames_per_second, source
from benchmarks.rows import Row, interleaved, spread
from openvla_toolkit.core.contract import ImageRecipe
from openvla_toolkit.core.data_sections import Augment, Frames
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.pipeline.frames import FrameMaker, frame_maker

__all__ = ["measure", "rate_row"]

REPEATS = 5
VIEW = 224
MEANS, STDS = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
ORIGINAL, FUSED, DECODING = "original", "fused", "decoding"
BARE = "decoder alone, one thread, pictures in memory"
TF_DATA, TF_DECODING = "tf.data", "tf.data, decoding"


def measure() -> list[Row]:
    """Let both loaders work in turns; a row per mode."""
    with scratch():
        ours = {
            ORIGINAL: source(rlds_set(), _maker("original")),
            FUSED: source(rlds_set(), _maker("fused")),
            DECODING: source(rlds_set(), None),
        }
        folder = data_folder() / "leaves" / "1.0.0"
        calls: dict[str, Callable[[], float]] = {
            **{name: partial(frames_per_second, samples) for name, samples in ours.items()},
            BARE: _decoder_alone,
            TF_DATA: partial(figure, "tf_data", folder, SECONDS, "augment"),
            TF_DECODING: partial(figure, "tf_data", folder, SECONDS, "decode"),
        }
        figures = interleaved(calls, repeats=REPEATS)
    what = f"{SIZE} px JPEG to {VIEW} px, augmented"
    settings = {
        "data": f"RLDS, {EPISODES} episodes, {FRAMES} frames, quality 95",
        "batch": BATCH,
        "workers": WORKERS,
        "peer's settings": "AUTOTUNE, shuffle buffer of 10,000 frames, no goal images",
    }
    row = partial(rate_row, figures, settings=settings)
    return [
        row(f"loader, original mode, {what}", ORIGINAL, TF_DATA, target=1.5),
        row(f"loader, fused mode, {what}", FUSED, TF_DATA, target=4.0),
        row(f"loader, original mode, {what}", ORIGINAL, DECODING, peer="the same loader, decoding alone"),
        row(f"loader, fused mode, {what}", FUSED, DECODING, peer="the same loader, decoding alone"),
        row("loader, decoding alone", DECODING, TF_DECODING),
        row("loader, decoding alone", DECODING, BARE),
    ]


def rate_row(
    figures: Mapping[str, list[float]],
    name: str,
    ours: str,
    theirs: str,
    *,
    settings: Mapping[str, Any],
    target: float | None = None,
    peer: str | None = None,
) -> Row:
    """Return the row of two measured rates: medians, and whether their ratio reaches the target."""
    value, peer_value = statistics.median(figures[ours]), statistics.median(figures[theirs])
    return Row(
        name=name,
        value=value,
        unit="frames/s",
        peer=peer or theirs,
        peer_value=peer_value,
        target="" if target is None else f"ratio >= {target:g}",
        met=None if target is None else value / peer_value >= target,
        settings={
            **settings,
            "figure": "median",
            "spread": spread(figures[ours]),
            "peer_spread": spread(figures[theirs]),
            "repeats": REPEATS,
            "order": "interleaved",
        },
    )


def _decoder_alone() -> float:
    """Decode an episode's pictures over and over."""
    dataset = rlds_set().build()
    pictures = [dataset.image(address) for address in dataset[0].images["primary"]]
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + 1.0:
        for picture in pictures:
            decode(picture)
        done += len(pictures)
    return done / (time.perf_counter() - began)


def _maker(mode: Literal["original", "fused"]) -> FrameMaker:
    recipe = Frames(resample=mode).recipe()
    images = ImageRecipe(size=VIEW, means=(MEANS,), stds=(STDS,), frame=recipe)
    return frame_maker(images, augment=Augment(), seed=0)
