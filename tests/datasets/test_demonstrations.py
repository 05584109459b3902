"""Demonstrations: what the expert does becomes a data set, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import DataError, OpenVLAError, RecipeError
from openvla_toolkit.datasets import DemonstrationsConfig, demonstrations
from openvla_toolkit.evaluators import ClosedLoopConfig

MODULE = (Path(__file__).parent / "fake_world.py").read_text()


@pytest.fixture
def config(tmp_path: Path, install: Callable[..., Path]) -> Callable[..., DemonstrationsConfig]:
    """Install the fake world and give a function that makes settings."""
    install(
        "fake-world",
        {"environment": {"fake-world": "fake_world:FakeWorldConfig"}},
        modules={"fake_world": MODULE},
    )

    def make(*, world: dict[str, Any] | None = None, **changes: Any) -> DemonstrationsConfig:
        return DemonstrationsConfig.model_validate(
            {
                "environment": {"name": "fake-world", **(world or {})},
                "root": tmp_path / "data",
                "dataset": "walks",
                "episodes": 5,
                "workers": 1,
                **changes,
            }
        )

    return make


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("walks-*"))}


def test_what_the_expert_does_is_read_back(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(seed=40)
    heard: list[tuple[int, int]] = []
    chosen.prepare(report=lambda done, total: heard.append((done, total)))
    assert heard == [(number, 5) for number in range(1, 6)]
    data = chosen.build()
    assert len(data) == 5
    for position in range(5):
        episode = data[position]
        about = data.trajectory(position)["traj_metadata"]["episode_metadata"]
        assert about["seed"][0] == 40 + position
        assert about["family"][0] == ("near", "far")[position % 2]
        assert about["success"][0]
        assert episode.instructions[0].startswith("go to ")
        assert np.all(episode.actions[:, 2] == 1)
        # Nothing disturbs the walk, so each place is the last one plus the recorded action.
        np.testing.assert_allclose(np.diff(episode.states[:, 0]), episode.actions[:-1, 0], atol=1e-6)
        assert len(data.image(episode.images["front"][-1])) > 100


def test_the_steps_are_marked_as_rlds_has_it(config: Callable[..., DemonstrationsConfig]) -> None:
    config(episodes=1).prepare()
    trajectory = config(episodes=1).build().trajectory(0)
    length = len(trajectory["action"])
    assert trajectory["is_first"].tolist() == [True] + [False] * (length - 1)
    assert trajectory["is_last"].tolist() == [False] * (length - 1) + [True]
    assert trajectory["is_terminal"].tolist() == trajectory["is_last"].tolist()
    assert trajectory["reward"].tolist() == [0.0] * (length - 1) + [1.0]
    assert trajectory["discount"].tolist() == [1.0] * length


def test_the_robot_is_that_of_the_environment(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(episodes=1)
    chosen.prepare()
    description = chosen.build().describe()
    assert description.robot == chosen.environment.interface()
    assert description.cameras == ["front"]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_number_of_workers_changes_nothing(
    config: Callable[..., DemonstrationsConfig], noise: float
) -> None:
    unlucky = {"expert": "unlucky"}
    roots = {workers: config().root / str(workers) for workers in (1, 2)}
    for workers, root in roots.items():
        config(world=unlucky, workers=workers, noise=noise, root=root, episodes=7).prepare()
    one, two = (contents(root) for root in roots.values())
    assert one == two
    assert len(one) == 1


def test_a_disturbed_walk_keeps_the_experts_actions(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(noise=1.0, noise_scale=0.3, episodes=8)
    chosen.prepare()
    data = chosen.build()
    slips = []
    for position in range(len(data)):
        episode = data[position]
        goal = float(episode.instructions[0].removeprefix("go to "))
        expected = np.clip(goal - episode.states[:, 0], -0.5, 0.5)
        np.testing.assert_allclose(episode.actions[:, 0], expected, atol=0.006)
        assert np.all(episode.actions[:, 1:] == np.float32([0.1, 1.0]))
        slips.append(np.diff(episode.states[:, 0]) - episode.actions[:-1, 0])
    assert np.abs(np.concatenate(slips)).max() > 0.05


def test_failures_are_left_out_and_made_up_for(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(world={"expert": "unlucky"})
    chosen.prepare()
    data = chosen.build()
    seeds = [
        int(data.trajectory(i)["traj_metadata"]["episode_metadata"]["seed"][0]) for i in range(len(data))
    ]
    assert seeds == [1, 2, 4, 5, 7]


def test_failures_are_kept_on_request(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(world={"expert": "hopeless"}, keep_failures=True)
    chosen.prepare()
    data = chosen.build()
    assert [len(data[position]) for position in range(len(data))] == [12] * 5
    assert not data.trajectory(0)["is_terminal"].any()


def test_a_hopeless_expert_is_given_up(config: Callable[..., DemonstrationsConfig]) -> None:
    chosen = config(world={"expert": "hopeless"})
    with pytest.raises(DataError, match=r"succeeded in 0 of 25 attempts, too few to go on\. Lower noise"):
        chosen.prepare()
    assert contents(chosen.root) == {}


def test_a_set_that_is_there_is_left_alone(config: Callable[..., DemonstrationsConfig]) -> None:
    config().prepare()
    before = {path: path.stat().st_mtime_ns for path in config().root.rglob("*")}
    config(workers=2, weight=2.0, families=["near", "far"]).prepare()
    assert {path: path.stat().st_mtime_ns for path in config().root.rglob("*")} == before


def test_a_set_made_with_other_settings_is_refused(config: Callable[..., DemonstrationsConfig]) -> None:
    config().prepare()
    with pytest.raises(RecipeError) as caught:
        config(seed=9, world={"size": 7}).prepare()
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("walks/1.0.0 was generated with other settings:")
    assert "  seed: made with 0, asked for 9" in lines
    assert any(line.startswith("  environment: made with {") for line in lines)
    assert not any("noise" in line for line in lines)
    assert lines[-1] == f"Delete {config().root / 'walks'}, or choose another name for dataset."


def test_a_set_that_nobody_generated_is_refused(config: Callable[..., DemonstrationsConfig]) -> None:
    (config().root / "walks" / "1.0.0").mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"was not generated from an environment\. Delete"):
        config().prepare()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"world": {"expert": "none"}}, r"^environment: the environment 'fake-world' has no scripted expert"),
        ({"world": {"expert": "none"}, "workers": 2}, "has no scripted expert"),
        (
            {"families": ["nea"]},
            r"^families: .* no task family 'nea'\. Did you mean 'near'\? There are: near, far",
        ),
        ({"noise": 0.5, "world": {"bounded": False}}, r"^noise: noise is measured by the bounds"),
    ],
)
def test_what_cannot_be_done_is_said(
    config: Callable[..., DemonstrationsConfig], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        config(**changes).prepare()
    assert contents(config().root) == {}


def test_a_worker_that_dies_is_reported(config: Callable[..., DemonstrationsConfig]) -> None:
    with pytest.raises(OpenVLAError, match="a process that generates demonstrations died"):
        config(world={"expert": "deadly"}, workers=2).prepare()
    assert contents(config().root) == {}


def test_two_runs_make_one_set(
    config: Callable[..., DemonstrationsConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def demonstrate(*arguments: Any) -> Any:
        made.append(arguments[-1])
        time.sleep(0.05)  # the other run begins meanwhile
        return one(*arguments)

    one = demonstrations.demonstrate
    monkeypatch.setattr(demonstrations, "demonstrate", demonstrate)
    with ThreadPoolExecutor(2) as runs:
        for run in [runs.submit(config().prepare) for _ in range(2)]:
            run.result()
    assert made == [0, 1, 2, 3, 4]
    assert len(config().build()) == 5


def test_there_is_a_process_per_core_that_may_be_used(
    config: Callable[..., DemonstrationsConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    makers = demonstrations._makers

    def counted(plan: Any, workers: int) -> Any:
        asked.append(workers)
        return makers(plan, 1)

    monkeypatch.setattr(demonstrations, "_makers", counted)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5})
    config(workers=None).prepare()
    assert asked == [3]


def test_the_seeds_of_evaluation_are_far_from_those_of_demonstrations(
    config: Callable[..., DemonstrationsConfig],
) -> None:
    evaluated = ClosedLoopConfig(environment=config().environment).seed
    demonstrated = config(episodes=100_000_000)
    assert evaluated > demonstrated.seed + demonstrations.ATTEMPTS_PER_EPISODE * demonstrated.episodes
