"""Film strips: a finished episode is repeated from its seed and actions, and photographed.

Repeating costs nothing while the evaluation runs, needs no memory for pictures of episodes that nobody will
look at, and lets the strips be chosen when all outcomes are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from openvla_toolkit.core.pages.strips import GAP, column, fitted, row, strip

if TYPE_CHECKING:
    from openvla_toolkit.evaluators.episodes import Outcome
    from openvla_toolkit.interfaces.environment import Environment

__all__ = ["choose_outcomes", "film"]

FRAMES = 7
WIDTH = 144
"""Pixels of one frame; the views that the policy saw stand side by side beneath the scene."""


def choose_outcomes(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """Choose at most ``count`` outcomes, successes and failures mixed the first of each."""
    won = [outcome for outcome in outcomes if outcome.success]
    lost = [outcome for outcome in outcomes if not outcome.success]
    of_lost = min(len(lost), max(count // 2, count - len(won)))
    of_won = min(len(won), count - of_lost)
    return sorted(won[:of_won] + lost[:of_lost], key=lambda outcome: outcome.plan.index)


def film(environment: Environment, outcome: Outcome, *, cameras: Sequence[str]) -> bytes | None:
    """Repeat an episode and return its film strip as a JPEG; None if it does not come out as before.

    Each frame shows the scene as the environment renders it, where it can, and the views of ``cameras``.
    """
    last = outcome.steps
    wanted = {round(last * share / (FRAMES - 1)) for share in range(FRAMES)}
    seen, info = environment.reset(seed=outcome.plan.seed, options=outcome.plan.options)
    frames = [_frame(environment, seen, cameras)]
    for step, action in enumerate(outcome.actions, start=1):
        seen, _, terminated, truncated, info = environment.step(action)
        if step in wanted:
            frames.append(_frame(environment, seen, cameras))
        if (terminated or truncated) != (step == last):
            return None
    if bool(info["is_success"]) != outcome.success:
        return None
    return strip(frames)


def _frame(environment: Environment, seen: Mapping[str, Any], cameras: Sequence[str]) -> Image.Image:
    """Lay out one moment: the scene in full width, the policy's views in a row beneath it."""
    views = [np.asarray(seen[f"observation.images.{camera}"]) for camera in cameras]
    render = getattr(environment, "render", None)
    scene = render() if callable(render) else None
    if scene is None:
        return column([fitted(view, WIDTH) for view in views])
    share = (WIDTH - GAP * (len(views) - 1)) // len(views)
    return column([fitted(np.asarray(scene), WIDTH), row([fitted(view, share) for view in views])])
