"""Start-up of the command line: whole processes, beside Python itself and Python with pydantic."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, interleaved

__all__ = ["measure"]

PEERS = {"python -c pass": "pass", "python -c 'import pydantic'": "import pydantic; pydantic.BaseModel"}

REPEATS = 20
TARGETS = {"openvla --help": 150, "openvla plugins": 150, "openvla check": 250}
"""Milliseconds; the minimum of the repeats is judged, as the rest is the machine's other work."""
RECIPE = """\
output: runs/nothing
data:
  - {name: demonstrations, environment: tabletop, root: data, dataset: scene, episodes: 10}
train:
  optimizer: {name: adamw, lr: 1.0e-3}
  steps: 10
  batch: {total: 8}
evaluate:
  - {name: closed-loop, environment: tabletop, episodes: 10}
"""


def measure() -> list[Row]:
    """Time each verb and the peers in turns; a row per verb, its peer Python with pydantic."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE)
        openvla = [str(Path(sys.executable).with_name("openvla"))]
        commands = {
            **{peer: [sys.executable, "-c", code] for peer, code in PEERS.items()},
            "openvla --help": [*openvla, "--help"],
            "openvla plugins": [*openvla, "plugins"],
            "openvla check": [*openvla, "check", str(recipe)],
        }
        figures = interleaved({name: _process(words) for name, words in commands.items()}, repeats=REPEATS)
    best = {name: min(times) * 1e3 for name, times in figures.items()}
    return [_row(name, best, peer) for name in TARGETS for peer in PEERS]


def _row(name: str, best: dict[str, float], peer: str) -> Row:
    return Row(
        name=name,
        value=best[name],
        unit="ms",
        peer=peer,
        peer_value=best[peer],
        target=f"<= {TARGETS[name]} ms",
        met=best[name] <= TARGETS[name],
        settings={"figure": "minimum", "repeats": REPEATS, "order": "interleaved"},
    )


def _process(words: list[str]) -> Callable[[], float]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.perf_counter() - began

    return seconds
