from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openvla_toolkit.core.errors import ContractMismatch, EpisodeError, RecipeError
from openvla_toolkit.core.types import ActionChunk
from openvla_toolkit.environments.tabletop import TabletopConfig
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.evaluators import ClosedLoopConfig
from openvla_toolkit.evaluators.episodes import EpisodePlan, Outcome, plan_episodes
from openvla_toolkit.evaluators.filmstrip import FRAMES, choose_outcomes, film
from openvla_toolkit.evaluators.worker_process import Start
from openvla_toolkit.evaluators.workers import WorkerPool

ASSETS = Path(__file__).parents[1] / "assets"
Progress = list[tuple[int, Mapping[str, float]]]


def evaluate(world: ModuleType, folder: Path, policy: Any = None, **settings: Any) -> tuple[Any, Progress]:
    told: Progress = []
    environment = world.PointWorldConfig(**settings.pop("environment", {}))
    config = ClosedLoopConfig(environment=environment, **{"episodes": 6, "workers": 1, **settings})
    policy = policy or world.PointPolicy()
    figures = config.build().evaluate(policy, folder, lambda done, values: told.append((done, values)))
    return figures, told


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_figures_log_and_film_strips(world: ModuleType, tmp_path: Path) -> None:
    figures, told = evaluate(world, tmp_path, parallel=4, swap_probe=4, filmstrips=2, workers=2)
    assert figures["success"]["successes"] == figures["success"]["episodes"] == 6
    assert figures["swap_probe"]["successes"] == 0  # the policy obeys the other instruction
    assert figures["swap_probe"]["episodes"] == 4
    assert {family: rate["episodes"] for family, rate in figures["families"].items()} == {
        "right": 3,
        "left": 3,
    }
    assert figures["summary"] == [
        "success 100.0 % [61.0, 100.0] over 6 episodes",
        "  right      100.0 % [43.9, 100.0] over 3 episodes",
        "  left       100.0 % [43.9, 100.0] over 3 episodes",
        "  swap probe   0.0 % [0.0, 49.0] of 4 episodes reach the original goal "
        "under another object's instruction",
    ]
    assert json.loads(json.dumps(figures)) == figures
    entries = log_of(tmp_path)
    assert [entry["episode"] for entry in entries] == list(range(10))
    assert entries[0] == {
        "episode": 0,
        "seed": 1_000_000_000,
        "family": "right",
        "task": "go right",
        "success": True,
        "steps": 7,
        "swap": False,
    }
    assert entries[6] == entries[0] | {"episode": 6, "task": "go left", "success": False, "swap": True}
    assert told[-1] == (10, {"total": 10, "success": 1.0})
    assert told[0] == (0, {"total": 10})
    assert [done for done, _ in told] == list(range(11))
    for strip in figures["filmstrips"]:
        with Image.open(tmp_path / strip["file"]) as picture:
            assert picture.width > picture.height
    assert len(figures["filmstrips"]) == 6


def test_episodes_do_not_depend_on_processes_or_batches(world: ModuleType, tmp_path: Path) -> None:
    logs = []
    for number, (workers, parallel) in enumerate([(1, 1), (2, 5), (3, 32)]):
        folder = tmp_path / str(number)
        evaluate(world, folder, episodes=7, swap_probe=2, workers=workers, parallel=parallel, filmstrips=1)
        logs.append(log_of(folder))
        assert (folder / "filmstrips/right-1000000000-success.jpg").exists()
    assert logs[0] == logs[1] == logs[2]


def test_the_batch_stays_full_while_episodes_wait(world: ModuleType, tmp_path: Path) -> None:
    policy = world.PointPolicy()
    evaluate(world, tmp_path, policy, episodes=12, parallel=4, filmstrips=0)
    assert set(policy.batches[:16]) == {4}


def test_chunks_are_executed_before_the_policy_is_asked_again(world: ModuleType, tmp_path: Path) -> None:
    whole, part = world.PointPolicy(chunk=3), world.PointPolicy(chunk=3)
    first, _ = evaluate(world, tmp_path / "a", whole, parallel=6, filmstrips=0)
    second, _ = evaluate(world, tmp_path / "b", part, parallel=6, filmstrips=0, execute=2)
    assert first["steps"] == second["steps"] == sum(entry["steps"] for entry in log_of(tmp_path / "a"))
    assert len(whole.batches) == 3  # at most 8 steps, three actions each
    assert len(part.batches) == 4


def test_actions_are_compared_with_the_expert_in_the_states_visited(
    world: ModuleType, tmp_path: Path
) -> None:
    figures, _ = evaluate(world, tmp_path, world.PointPolicy(step=0.15), swap_probe=2, filmstrips=0)
    actions = figures["actions"]
    assert actions["mean_difference"] == pytest.approx({"x": 0.05, "gripper": 0.0}, abs=1e-5)
    x = actions["dimensions"][0]
    steps = sum(entry["steps"] for entry in log_of(tmp_path) if not entry["swap"])
    assert sum(x["counts"]["policy"]) == sum(x["counts"]["expert"]) == steps
    assert x["edges"][0] == pytest.approx(-0.15, abs=1e-5)


def test_families_can_be_chosen_and_unknown_ones_are_named(world: ModuleType, tmp_path: Path) -> None:
    figures, _ = evaluate(world, tmp_path, families=["left"], filmstrips=0)
    assert list(figures["families"]) == ["left"]
    with pytest.raises(RecipeError, match=r"no task family 'lef'\. Did you mean 'left'"):
        evaluate(world, tmp_path, families=["lef"])


def test_another_robot_is_refused_before_anything_runs(world: ModuleType, tmp_path: Path) -> None:
    policy = world.PointPolicy()
    with pytest.raises(ContractMismatch, match="environment 'point-world' do not agree on 1 point"):
        evaluate(world, tmp_path, policy, environment={"control_hz": 10.0})
    assert policy.batches == []


def test_an_environment_that_raises_is_named_with_episode_and_seed(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        EpisodeError, match=r"episode 3 \(seed 1000000003, family left\).*motor is hot"
    ) as caught:
        evaluate(world, tmp_path, environment={"fault": "raise", "fault_seed": 1_000_000_003}, workers=2)
    assert "point_world.py" in str(caught.value.__cause__)  # the worker's own traceback
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_named_with_episode_and_seed(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"died \(exit code 7\) during .*episode 3 \(seed 1000000003"):
        evaluate(world, tmp_path, environment={"fault": "die", "fault_seed": 1_000_000_003}, workers=2)
    assert multiprocessing.active_children() == []


def test_workers_end_on_an_interrupt(world: ModuleType) -> None:
    def interrupted() -> None:
        pool = WorkerPool(world.PointWorldConfig(), cameras=["primary"], slots=4, workers=2)
        with pool:
            plans = plan_episodes(["left"], episodes=4, swap_probe=0, seed=0)
            pool.carry_out({slot: Start(plan) for slot, plan in enumerate(plans)})
            assert len(multiprocessing.active_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert multiprocessing.active_children() == []


INTERRUPTED = """
import signal
import sys
from pathlib import Path
import point_world
from openvla_toolkit.core.types import ActionChunk
from openvla_toolkit.environments.tabletop import TabletopConfig
from openvla_toolkit.environments.tabletop.settings import TabletopWorld
from openvla_toolkit.evaluators import ClosedLoopConfig

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    environment = point_world.PointWorldConfig()
    config = ClosedLoopConfig(environment=environment, episodes=10**6, workers=2, filmstrips=0)
    progress = lambda done, values: done == AFTER and print("running", flush=True)
    print("starting", flush=True)
    try:
        config.build().evaluate(point_world.PointPolicy(), Path(sys.argv[1]), progress)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_ctrl_c_ends_everything_quietly(tmp_path: Path, moment: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.replace("AFTER", "10"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ASSETS), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=environment,
        start_new_session=True,  # a process group of its own, as a shell's job has
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != moment:
            assert process.poll() is None
        time.sleep(0.4 if moment == "starting" else 0)
        os.killpg(process.pid, signal.SIGINT)
        # Workers hold the same pipes: that these end shows that every worker has ended.
        try:
            _, complaints = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert complaints == ""
    assert process.returncode == 130


def test_the_tabletop_can_be_evaluated_and_filmed(world: ModuleType, tmp_path: Path) -> None:
    environment = TabletopConfig(world=TabletopWorld(max_steps=3))
    policy = world.PointPolicy()
    policy.contract = policy.contract.model_copy(update={"robot": environment.interface()})
    policy.predict_chunks = lambda observations, unnorm_key: [
        ActionChunk(actions=np.zeros((1, 7))) for _ in observations
    ]
    config = ClosedLoopConfig(environment=environment, episodes=4, workers=1, filmstrips=1, swap_probe=1)
    figures = config.build().evaluate(policy, tmp_path, lambda done, values: None)
    assert figures["success"]["episodes"] == 4
    assert figures["actions"]["expert"]
    assert all((tmp_path / strip["file"]).stat().st_size > 1000 for strip in figures["filmstrips"])
    told = {line["seed"]: line["task"] for line in log_of(tmp_path) if not line["swap"]}
    swapped = log_of(tmp_path)[-1]
    assert swapped["swap"]
    assert swapped["task"] != told[swapped["seed"]]


def test_actions_that_are_not_finite_are_refused(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"not finite in episode 0 \(seed 1000000000"):
        evaluate(world, tmp_path, world.PointPolicy(step=float("nan")))


def outcome_of(index: int, *, success: bool) -> Outcome:
    plan = EpisodePlan(index=index, seed=index, family="right")
    actions = np.full((6 + index % 3, 2), 0.1 if success else -0.1, dtype=np.float32)
    return Outcome(plan=plan, task="go right", success=success, actions=actions, expert=None)


def test_film_strips_show_successes_and_failures_where_there_are_both() -> None:
    outcomes = [outcome_of(index, success=index not in (5, 9)) for index in range(12)]
    assert [one.plan.index for one in choose_outcomes(outcomes, 4)] == [0, 1, 5, 9]
    assert [one.plan.index for one in choose_outcomes(outcomes, 3)] == [0, 1, 5]
    assert [one.success for one in choose_outcomes(outcomes[:4], 3)] == [True] * 3
    assert choose_outcomes(outcomes, 0) == []


def test_a_film_strip_shows_the_scene_from_start_to_end(world: ModuleType) -> None:
    environment = world.PointWorldConfig().build()
    strip = film(environment, outcome_of(0, success=True), cameras=["primary"])
    assert strip is not None
    with Image.open(io.BytesIO(strip)) as picture:
        columns = np.asarray(picture.convert("L")).astype(int)
    frame = columns.shape[1] / FRAMES
    right_of_last = columns[:, int(6.75 * frame)].mean()
    assert right_of_last > 200  # the point ends on the right, where pictures are bright


def test_an_environment_that_does_not_repeat_itself_has_no_film_strip(world: ModuleType) -> None:
    environment = world.PointWorldConfig().build()
    claimed = outcome_of(0, success=True)
    other = Outcome(plan=claimed.plan, task="go right", success=False, actions=claimed.actions, expert=None)
    assert film(environment, other, cameras=["primary"]) is None
