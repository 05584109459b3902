"""Steps per second of the embedded tabletop on one core, beside the same steps without pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.rows import Row, interleaved, spread
from openvla_toolkit.environments.tabletop.drawing import draw_primary
from openvla_toolkit.environments.tabletop.env import TabletopEnv
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.environments.tabletop.world import advance

__all__ = ["measure"]

SIZE = 128
STEPS = 300
REPEATS = 7
TARGET = 500
ONE, BOTH, NONE = (
    f"one {SIZE} px view",
    f"both {SIZE} px views (env.step)",
    "no view (physics alone)",
)


def measure() -> list[Row]:
    """Let the expert act in scene after scene; a row per number of views drawn."""
    world = TabletopWorld(image_size=SIZE)
    env = TabletopEnv(world)

    def physics(action: list[float]) -> None:
        advance(env.state, action)

    def one_view(action: list[float]) -> None:
        advance(env.state, action)
        draw_primary(env.state, world.camera, size=SIZE)

    def both_views(action: list[float]) -> None:
        env.step(action)  # type: ignore[arg-type]  # a list serves as well as an array

    steps = {NONE: physics, ONE: one_view, BOTH: both_views}
    figures = interleaved({name: _rate(env, step) for name, step in steps.items()}, repeats=REPEATS)
    return [_row(name, figures, TARGET if name == ONE else None) for name in (ONE, BOTH)]


def _rate(env: TabletopEnv, step: Callable[[list[float]], None]) -> Callable[[], float]:
    def steps_per_second() -> float:
        spent = 0.0
        for number in range(STEPS):
            if number % 10 == 0:
                env.reset(seed=number)
            began = time.process_time()
            step(env.expert_action().tolist())
            spent += time.process_time() - began
        return STEPS / spent

    return steps_per_second


def _row(name: str, figures: dict[str, list[float]], target: int | None) -> Row:
    value = statistics.median(figures[name])
    return Row(
        name=f"tabletop, {name}",
        value=value,
        unit="steps/s",
        peer=NONE,
        peer_value=statistics.median(figures[NONE]),
        target="" if target is None else f">= {target} steps/s",
        met=None if target is None else value >= target,
        settings={
            "figure": "median",
            "spread": spread(figures[name]),
            "peer_spread": spread(figures[NONE]),
            "repeats": REPEATS,
            "steps": STEPS,
            "clock": "CPU time of one core",
        },
    )
