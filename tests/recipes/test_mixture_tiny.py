"""The recipe of a mixture: killed in the middle, it goes on with other workers as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.recipe import Recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "mixture-tiny.yaml"
SMALL = [
    *(f"data.0.data.{number}.episodes=3" for number in range(3)),
    *(f"data.0.data.{number}.environment.world.image_size=32" for number in range(3)),
    "train.engine.device=cpu",
    "train.log_every=1",
    "train.save_every=3",
    "train.loader.shuffle.block=5",
]


def command(output: str, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "openvla_toolkit",
        "run",
        str(RECIPE),
        *SMALL,
        f"output={output}",
        *overrides,
    ]


def curve(output: Path) -> dict[int, tuple[float, float]]:
    """Return loss and norm of the gradient by step, to the last bit; what was taken again counts last."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines if line["stage"] == "train"}


def killed_with_checkpoints(output: Path, words: list[str], count: int) -> int:
    """Run until there are checkpoints, kill the process, and return the step of the newest."""
    process = subprocess.Popen(words, cwd=output.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 180
        while len(checkpoints_of(output)) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no checkpoints in three minutes"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    return int(checkpoints_of(output)[-1].name.removeprefix("step-"))


@pytest.mark.slow
def test_killed_and_resumed_with_other_workers_the_batches_are_the_same(tmp_path: Path) -> None:
    broken, straight = tmp_path / "broken", tmp_path / "straight"
    reached = killed_with_checkpoints(broken, command("broken", "train.steps=10000000"), 2)
    steps = f"train.steps={reached + 6}"
    for words in (
        command("broken", steps, "train.loader.workers=2", "--resume"),
        command("straight", steps, "train.loader.workers=0"),
    ):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    expected = curve(straight)
    assert set(expected) == set(range(1, reached + 7))
    assert {step: curve(broken)[step] for step in expected} == expected
    sets = {path.name for path in (tmp_path / "runs" / "data").iterdir()}
    assert sets == {"mixture_touch", "mixture_push", "mixture_pick"}


def test_the_order_of_samples_belongs_to_the_run() -> None:
    recipe = Recipe.load(RECIPE)
    assert recipe.train is not None
    assert recipe.train.loader.shuffle.name == "blocks"
    assert [member.weight for member in recipe.data[0].data] == [1.0, 2.0, 0.5]  # type: ignore[attr-defined]
