"""A run that was stopped, however, goes on as if it had not been: the same losses to the last bit."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.errors import CheckpointError, RecipeError, RunInterrupted, StorageError, UserError
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.core.lockfile import LOCK_NAME, write_lock
from openvla_toolkit.interfaces.observer import ObserverConfig
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import LinearPolicy, tiny_policy


class StopAtConfig(ObserverConfig):
    """Sends a signal to this process when a step was logged."""

    name: Literal["stop-at"] = "stop-at"
    step: int

    def build(self) -> object:
        return _StopAt(self.step)


class _StopAt:
    def __init__(self, step: int) -> None:
        self._step = step

    @observe
    def metrics_logged(self, stage: str, step: int) -> None:
        if (stage, step) == ("train", self._step):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("stop", "log_every"), [(1, 1), (5, 1), (10, 1), (1, 3), (2, 5)])
def test_a_signal_saves_and_the_run_goes_on(
    make_recipe: Any, read_curve: Any, stop: int, log_every: int
) -> None:
    settings = {"schedule": {"name": "cosine", "warmup": 3}, "log_every": log_every, "save_every": 5}
    straight = make_recipe("straight", train=settings)
    run(straight)
    broken = make_recipe("broken", train=settings, observers=["jsonl", StopAtConfig(step=stop * log_every)])
    reached = stop * log_every
    with pytest.raises(RunInterrupted, match=rf"stopped by SIGTERM after step {reached} of 12.*--resume"):
        run(broken)
    assert checkpoints_of(broken.output)[-1].name == f"step-{reached:06d}"
    result = run(make_recipe("broken", train=settings), resume=True)
    assert result.checkpoint is not None
    assert result.checkpoint.name == "step-000012"
    assert read_curve(broken.output) == read_curve(straight.output)


def test_a_real_policy_goes_on_to_the_last_bit(make_recipe: Any, read_curve: Any) -> None:
    policy = tiny_policy().model_dump(mode="json")
    settings = {"steps": 5, "schedule": {"name": "linear", "warmup": 2}}
    run(make_recipe("straight", policy=policy, train=settings))
    broken = make_recipe("broken", policy=policy, train=settings, observers=["jsonl", StopAtConfig(step=2)])
    with pytest.raises(RunInterrupted):
        run(broken)
    run(make_recipe("broken", policy=policy, train=settings), resume=True)
    expected = read_curve(broken.output.parent / "straight")
    assert read_curve(broken.output) == expected
    assert set(expected) == {1, 2, 3, 4, 5}


def command(recipe: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "openvla_toolkit", "run", str(recipe), *arguments]


def until_saved(output: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 120
    while len(checkpoints_of(output)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint in two minutes"
        time.sleep(0.02)


@pytest.fixture
def endless(make_recipe: Any, tmp_path: Path) -> Any:
    """Start a run that saves every ten steps and would take very long; the test's end kills it."""
    recipe = make_recipe(train={"steps": 10**7, "save_every": 10, "loader": {"workers": 1}})
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    process = subprocess.Popen(command(file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until_saved(recipe.output, process, 2)
        yield process, recipe
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_killed_in_the_middle(endless: Any, make_recipe: Any, read_curve: Any, processes: Any) -> None:
    process, recipe = endless
    children = processes.started_by(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    processes.until_gone(children)
    (recipe.output / "checkpoints" / "step-999999.partial-1-a").mkdir()
    last = checkpoints_of(recipe.output)[-1]
    steps = int(last.name.removeprefix("step-")) + 15
    settings = {"steps": steps, "save_every": 10}
    run(make_recipe(train=settings), resume=True)
    run(make_recipe("straight", train=settings))
    straight, resumed = read_curve(recipe.output.parent / "straight"), read_curve(recipe.output)
    for step, line in straight.items():
        assert {**resumed[step], "total": steps} == line
    assert not list((recipe.output / "checkpoints").glob("*.partial-*"))


def test_sigterm_saves_and_exits_with_143(endless: Any) -> None:
    process, recipe = endless
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM after step" in said
    assert "Traceback" not in said
    assert str(checkpoints_of(recipe.output)[-1]) in said.replace("\n", "")


def test_a_second_process_is_refused(endless: Any) -> None:
    _, recipe = endless
    with pytest.raises(UserError, match="another process is running in"):
        run(recipe, resume=True)


def test_a_full_disk_leaves_no_checkpoint(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []
    save = LinearPolicy.save

    def fill(self: LinearPolicy, folder: Path, **options: Any) -> None:
        save(self, folder, **options)
        saved.append(folder)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(LinearPolicy, "save", fill)
    recipe = make_recipe(train={"save_every": 4})
    with pytest.raises(StorageError, match=r"no space left while writing .*step-000008"):
        run(recipe)
    assert [path.name for path in (recipe.output / "checkpoints").iterdir()] == ["step-000004"]
    assert run(recipe, resume=True).checkpoint == recipe.output / "checkpoints" / "step-000012"


@pytest.mark.parametrize(("keep", "left"), [(1, [12]), (2, [9, 12]), (9, [3, 6, 9, 12])])
def test_the_newest_checkpoints_are_kept(make_recipe: Any, keep: int, left: list[int]) -> None:
    recipe = make_recipe(train={"save_every": 3, "keep": keep})
    run(recipe)
    assert [path.name for path in checkpoints_of(recipe.output)] == [f"step-{step:06d}" for step in left]


def test_an_output_folder_belongs_to_one_run(make_recipe: Any) -> None:
    recipe = make_recipe()
    run(recipe)
    with pytest.raises(UserError, match="holds a run already: go on with it with --resume"):
        run(recipe)


def test_a_finished_run_is_resumed_at_once(make_recipe: Any) -> None:
    recipe = make_recipe()
    first = run(recipe)
    assert run(recipe, resume=True).checkpoint == first.checkpoint


def test_a_run_may_be_prolonged_and_not_shortened(make_recipe: Any) -> None:
    run(make_recipe())
    longer = run(make_recipe(train={"steps": 15}), resume=True).checkpoint
    assert longer is not None
    assert longer.name == "step-000015"
    lock = longer.parents[1] / LOCK_NAME
    before = lock.read_text()
    with pytest.raises(UserError, match=r"at step 15, past train\.steps=12"):
        run(make_recipe(), resume=True)
    assert lock.read_text() == before
    with pytest.raises(UserError, match=r"at step 15, past train\.steps=1\."):
        run(make_recipe(train={"steps": 0, "epochs": 0.01}), resume=True)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"seed": 8}, "seed"),
        ({"data": [{"name": "dots-episodes", "seed": 1}]}, r"data\.0\.seed"),
        ({"policy": {"name": "dots-linear", "chunk": 2}}, r"policy\.chunk"),
        ({"train": {"optimizer": {"lr": 0.02}}}, r"train\.optimizer\.lr"),
        ({"train": {"batch": {"total": 8}}}, r"train\.batch\.total"),
        ({"train": {"clip_norm": None}}, r"train\.clip_norm"),
        ({"train": {"frames": {"resample": "original"}}}, r"train\.frames"),
        ({"train": {"loader": {"shuffle": "blocks"}}}, r"train\.loader\.shuffle"),
    ],
)
def test_other_settings_are_another_run(make_recipe: Any, changes: dict[str, Any], path: str) -> None:
    run(make_recipe())
    with pytest.raises(RecipeError, match=rf"^{path}: the run in .* was started with"):
        run(make_recipe(**changes), resume=True)


MADE = {"name": "demonstrations", "environment": "dots", "root": "nowhere", "episodes": 3}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": [{"name": "dots-episodes"}, {"name": "dots-episodes", "seed": 3}]},
            r"^data\.1\.seed: the run in \S+ was started with 2, not 3; resume it with the same value",
        ),
        (
            {"data": [{"name": "dots-episodes"}]},
            r"^data: the run in \S+ was started with \['dots-episodes', 'dots-episodes'\], not \['dots-ep",
        ),
        (
            {"data": [{**MADE, "dataset": "a"}, {**MADE, "dataset": "b"}]},
            r"^data\.0: the run in \S+ was started with dots-episodes, not demonstrations;",
        ),
    ],
)
def test_the_first_setting_that_differs_is_named_and_no_other(
    make_recipe: Any, changes: Any, said: str
) -> None:
    first, second = {"name": "dots-episodes"}, {"name": "dots-episodes", "seed": 2}
    begun = make_recipe(data=[first, second])
    (begun.output / "checkpoints" / "step-000012").mkdir(parents=True)
    write_lock(begun, begun.output)
    with pytest.raises(RecipeError, match=said):
        run(make_recipe(**changes), resume=True)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("training_state/.metadata", r"the training state in \S+ cannot be read: .*\. Remove {newest}"),
        ("training_state/random-00000.safetensors", r"cannot be read: .*\. Remove {newest}"),
        ("training_state/state.json", r"state\.json cannot be read: .*\. Remove {newest}"),
        ("model.safetensors", r"model\.safetensors cannot be read: .* Or remove {newest}"),
    ],
)
def test_a_damaged_checkpoint_is_no_dead_end(make_recipe: Any, damaged: str, said: str) -> None:
    """The run does what the message says: it goes on from the one before, or anew where there is none."""
    recipe = make_recipe(
        policy=tiny_policy().model_dump(mode="json"), train={"steps": 3, "save_every": 2, "keep": 2}
    )
    run(recipe)
    for how in (r"goes on from step-000002\.", r"begins anew, since there is none before it\."):
        newest = checkpoints_of(recipe.output)[-1]
        (newest / damaged).write_bytes(b"cut")
        expected = said.replace("{newest}", re.escape(str(newest)))
        with pytest.raises(CheckpointError, match=rf"{expected}; --resume then {how}$"):
            run(recipe, resume=True)
        shutil.rmtree(newest)
    assert run(recipe, resume=True).checkpoint == newest.with_name("step-000003")


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the toolkit logged; torch's checkpoints log every move."""
    return [record.message for record in caplog.records if record.name.startswith("openvla_toolkit")]


@pytest.mark.parametrize(("schedule", "said"), [("linear", 1), ("cosine", 1), ("constant", 0)])
def test_other_steps_bend_the_learning_rate_and_that_is_said(
    make_recipe: Any, caplog: pytest.LogCaptureFixture, schedule: str, said: int
) -> None:
    run(make_recipe(train={"schedule": schedule}))
    run(make_recipe(train={"schedule": schedule}), resume=True)
    assert said_by_us(caplog) == []
    run(make_recipe(train={"schedule": schedule, "steps": 14}), resume=True)
    lines = [line for line in said_by_us(caplog) if line.startswith("train.steps was 12 and is now 14")]
    assert len(lines) == said


def test_other_epochs_bend_the_learning_rate_and_that_is_said(
    make_recipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"schedule": "linear", "steps": 0}
    run(make_recipe(train={**settings, "epochs": 0.5}))
    run(make_recipe(train={**settings, "epochs": 1}), resume=True)
    (line,) = [line for line in said_by_us(caplog) if line.startswith("train.epochs was")]
    assert "was 0.5 and is now 1.0: from here on the learning rate is that of a run of 1.0 epochs" in line


def test_a_signal_in_the_last_step_is_obeyed(make_recipe: Any, counting: Any, measured: Any) -> None:
    stopped = make_recipe(evaluate=[counting()], observers=["jsonl", StopAtConfig(step=12)])
    with pytest.raises(RunInterrupted, match="stopped by SIGTERM after step 12 of 12"):
        run(stopped)
    assert measured == []
    run(make_recipe(evaluate=[counting()]), resume=True)
    assert len(measured) == 1


def test_what_does_not_matter_may_change(make_recipe: Any) -> None:
    run(make_recipe())
    changes = {"save_every": 1, "keep": 3, "log_every": 5, "loader": {"workers": 0, "prefetch": 9}}
    assert run(make_recipe(train=changes), resume=True).checkpoint is not None


def test_a_run_that_left_nothing_is_begun_anew(make_recipe: Any) -> None:
    missing = make_recipe(policy={"name": "dots-linear", "cameras": ["ceiling"]})
    with pytest.raises(Exception, match="ceiling"):
        run(missing)
    assert (missing.output / "recipe.lock.yaml").exists()
    assert run(make_recipe()).checkpoint is not None


def test_a_run_without_its_lock_is_left_alone(make_recipe: Any) -> None:
    recipe = make_recipe()
    run(recipe)
    (recipe.output / "recipe.lock.yaml").unlink()
    with pytest.raises(UserError, match=r"holds a run without its recipe\.lock\.yaml"):
        run(recipe, resume=True)
