"""What the training loop does besides steps: refuse what is not finite, average, measure on held-out data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import OutOfMemory, RecipeError, RunInterrupted, TrainingError, UserError
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing.fakes.linear import LinearPolicy

POISONED = '''
import os
from typing import Literal
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.testing.fakes.linear import LinearPolicy, LinearPolicyConfig

class PoisonedConfig(LinearPolicyConfig):
    """The loss of the fourth step is not a number, in the last rank."""
    name: Literal["poisoned"] = "poisoned"

    def build(self, *, robot=None, statistics=None):
        policy = super().build(robot=robot, statistics=statistics)
        ranks, loss, calls = Ranks.here(), policy.loss, []

        def poisoned(module, batch):
            calls.extend([1] * module.training)
            report = loss(module, batch)
            last = ranks.rank == ranks.world_size - 1
            bad = len(calls) == 4 and module.training and last and "POISON" in os.environ
            return report._replace(total=report.total * float("nan")) if bad else report

        policy.loss = poisoned
        return policy
'''


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the losses of some steps (counted from 1, of one pass each) something else."""
    loss, taken = LinearPolicy.loss, [0]

    def now(value: float, *steps: int) -> None:
        def poisoned(self: LinearPolicy, module: Any, batch: Mapping[str, Tensor]) -> LossReport:
            report = loss(self, module, batch)
            taken[0] += module.training
            return report._replace(total=report.total * value) if taken[0] in steps else report

        monkeypatch.setattr(LinearPolicy, "loss", poisoned)

    return now


def lines(output: Path, stage: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["stage"] == stage]


def weights(checkpoint: Path | None) -> Mapping[str, Tensor]:
    assert checkpoint is not None
    return load_policy(checkpoint).module.state_dict()


ONE_PASS = {"batch": {"total": 4}}


@pytest.mark.parametrize(
    ("value", "what"), [(float("nan"), "the loss is nan"), (float("inf"), "the loss is inf")]
)
def test_a_loss_that_is_not_finite_saves_and_stops(
    value: float, what: str, make_recipe: Any, poison: Any, tmp_path: Path
) -> None:
    expected = weights(run(make_recipe("short", train={**ONE_PASS, "steps": 4})).checkpoint)
    poison(value, 5)
    with pytest.raises(TrainingError, match=rf"^step 5: {what} \(samples of dots\)") as caught:
        run(make_recipe(train=ONE_PASS))
    (saved,) = checkpoints_of(tmp_path / "run")
    assert f"The state after step 4 is saved in {saved}." in str(caught.value)
    assert all(value.equal(expected[name]) for name, value in weights(saved).items())


def test_nothing_is_saved_when_the_first_step_is_not_finite(make_recipe: Any, poison: Any) -> None:
    poison(float("nan"), 1)
    with pytest.raises(TrainingError, match=r"nothing was updated\. .* in fp32\.$"):
        run(make_recipe(train=ONE_PASS))


def test_a_saved_step_is_not_saved_again(make_recipe: Any, poison: Any, tmp_path: Path) -> None:
    poison(float("nan"), 4)
    with pytest.raises(TrainingError, match="after step 3 is saved"):
        run(make_recipe(train={**ONE_PASS, "save_every": 3}))
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["step-000003"]


def test_skipped_updates_are_counted_and_told(
    make_recipe: Any, poison: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    poison(float("nan"), 3, 4, 8)
    run(make_recipe(train={**ONE_PASS, "on_nonfinite": "skip", "log_every": 4}))
    told = [line.get("skipped_updates") for line in lines(tmp_path / "run", "train")]
    assert told == [2, 3, 3]
    assert "step 4: the loss is nan (samples of dots); its update is left out, 2 so far." in caplog.text


def test_a_run_that_skipped_goes_on_counting(make_recipe: Any, poison: Any, tmp_path: Path) -> None:
    poison(float("nan"), 2, 3, 5, 6, 7, 8)
    skipping = {**ONE_PASS, "on_nonfinite": {"action": "skip", "limit": 3}}
    with pytest.raises(TrainingError, match=r"^step 8: .* and so it was in the 3 steps before"):
        run(make_recipe(train=skipping))
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["step-000007"]
    poison(float("nan"), 9, 10, 11, 12)  # the eighth step, tried again, and those after it
    with pytest.raises(TrainingError, match=r"^step 11: .* and so it was in the 3 steps before"):
        run(make_recipe(train=skipping), resume=True)


def test_a_window_without_an_update_repeats_no_figures(make_recipe: Any, poison: Any, tmp_path: Path) -> None:
    poison(float("nan"), 1, 2, 5, 6)
    run(
        make_recipe(
            train={**ONE_PASS, "on_nonfinite": "skip", "log_every": 2, "save_every": 2, "keep_best": "loss"}
        )
    )
    told = {line["step"]: line for line in lines(tmp_path / "run", "train")}
    assert [step for step, line in told.items() if "loss" not in line] == [2, 6]
    assert told[6]["skipped_updates"] == 4


def test_the_mean_of_the_weights_is_what_it_should_be(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    policies: list[LinearPolicy] = []
    loss = LinearPolicy.loss

    def noting(self: LinearPolicy, module: Any, batch: Mapping[str, Tensor]) -> LossReport:
        if module.training:
            seen.append(module.weight.detach().clone())
            policies.append(self)
        return loss(self, module, batch)

    monkeypatch.setattr(LinearPolicy, "loss", noting)
    settings = {"optimizer": {"lr": 0.01, "ema": {"decay": 0.8, "every": 3, "use": True}}, **ONE_PASS}
    last = run(make_recipe(train=settings)).checkpoint
    mean = seen[0]
    for step in (3, 6, 9):
        mean = torch.lerp(mean, seen[step], 0.2)
    mean = torch.lerp(mean, policies[-1].module.weight.detach(), 0.2)  # after the last step, the twelfth
    torch.testing.assert_close(weights(last)["weight"], mean, rtol=0, atol=0)


@pytest.mark.parametrize("use", [True, False])
def test_averaging_changes_no_step_and_resumes_exactly(
    use: bool, make_recipe: Any, read_curve: Any, tmp_path: Path
) -> None:
    averaging = {"optimizer": {"lr": 0.01, "ema": {"decay": 0.9, "use": use}}}
    plain = run(make_recipe("plain")).checkpoint
    straight = run(make_recipe("straight", train=averaging)).checkpoint
    run(make_recipe("parts", train={**averaging, "steps": 5}))
    parts = run(make_recipe("parts", train=averaging), resume=True).checkpoint
    curves = [read_curve(tmp_path / name) for name in ("plain", "straight", "parts")]
    assert [{**line, "total": 12} for line in curves[2].values()] == list(curves[1].values())
    assert curves[0] == curves[1]
    assert all(value.equal(weights(straight)[name]) for name, value in weights(parts).items())
    assert weights(plain)["weight"].equal(weights(straight)["weight"]) != use


def held_out(**settings: Any) -> dict[str, Any]:
    data = [{"name": "dots-episodes", "episodes": 2, "seed": 50}]
    return {"validation": {"every": 5, "samples": 8, "data": data, **settings}}


def test_held_out_data_is_measured_and_leaves_no_trace(
    make_recipe: Any, read_curve: Any, tmp_path: Path
) -> None:
    plain = run(make_recipe("plain")).checkpoint
    result = run(make_recipe("measured", train=held_out()))
    assert read_curve(tmp_path / "measured") == read_curve(tmp_path / "plain")
    assert weights(result.checkpoint)["weight"].equal(weights(plain)["weight"])
    told = lines(tmp_path / "measured", "validation")
    assert [line["step"] for line in told] == [0, 5, 10, 12]
    assert told[-1]["loss"] < told[0]["loss"]
    assert {"l1", "l1.x", "l1.y", "l1.gripper"} <= told[0].keys()


@pytest.mark.parametrize("engine", ["single", "fsdp"])
def test_held_out_data_is_measured_by_the_weights_that_are_saved(
    engine: str, make_recipe: Any, read_curve: Any, tmp_path: Path
) -> None:
    """The running mean, where it is used; the training goes on from the weights themselves."""
    settings = {"engine": {"name": engine, "device": "cpu"}, **held_out(every=5)}
    averaging = {**settings, "optimizer": {"lr": 0.01, "ema": {"decay": 0.9, "use": True}}}
    run(make_recipe("plain", train=settings | {"optimizer": {"lr": 0.01}}))
    mean = run(make_recipe("mean", train=averaging)).checkpoint
    assert read_curve(tmp_path / "plain") == read_curve(tmp_path / "mean")
    again = {"policy": {"name": "dots-linear", "weights": str(mean)}}
    run(make_recipe("again", train={**settings, "steps": 1, "optimizer": {"lr": 1e-9}}, **again))
    (first, *_) = lines(tmp_path / "again", "validation")
    told = lines(tmp_path / "mean", "validation")[-1]
    assert told["loss"] == pytest.approx(first["loss"], rel=1e-6)
    assert told["loss"] != pytest.approx(lines(tmp_path / "plain", "validation")[-1]["loss"], rel=1e-3)


def test_the_same_weights_are_measured_the_same(make_recipe: Any, tmp_path: Path) -> None:
    run(make_recipe("straight", train=held_out()))
    run(make_recipe("parts", train={**held_out(), "steps": 7}))
    run(make_recipe("parts", train=held_out()), resume=True)
    straight, parts = (lines(tmp_path / name, "validation") for name in ("straight", "parts"))
    first = {line["step"]: line["loss"] for line in parts}
    assert {line["step"]: line["loss"] for line in straight}.items() <= first.items()


def test_a_resumed_run_measures_what_was_not_measured_before(make_recipe: Any, tmp_path: Path) -> None:
    run(make_recipe(train={"steps": 7}))
    settings = {**held_out(), "keep_best": "validation/loss", "save_every": 2, "keep": 1}
    run(make_recipe(train=settings), resume=True)
    assert [line["step"] for line in lines(tmp_path / "run", "validation")] == [7, 10, 12]
    kept = {path.name for path in checkpoints_of(tmp_path / "run")}
    losses = {line["step"]: line["loss"] for line in lines(tmp_path / "run", "validation")}
    assert kept == {f"step-{min((10, 12), key=losses.__getitem__):06d}", "step-000012"}


def test_a_signal_does_not_wait_for_the_measuring(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left, the state is saved, and the resumed run makes up for it: the same lines as without."""
    loss, passes = LinearPolicy.loss, []

    def signalling(self: LinearPolicy, module: Any, batch: Mapping[str, Tensor]) -> LossReport:
        passes.extend([1] * (not module.training))
        if len(passes) == 4:  # three batches of four before the first step, one of three after the fifth
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, module, batch)

    settings = held_out(samples=12)
    run(make_recipe("straight", train=settings))
    monkeypatch.setattr(LinearPolicy, "loss", signalling)
    with pytest.raises(RunInterrupted, match="after step 5 of 12"):
        run(make_recipe("parts", train=settings))
    assert len(passes) == 4
    run(make_recipe("parts", train=settings), resume=True)
    straight, parts = (lines(tmp_path / name, "validation") for name in ("straight", "parts"))
    assert [(line["step"], line["loss"]) for line in parts] == [
        (line["step"], line["loss"]) for line in straight
    ]


def test_held_out_data_are_measured_in_the_numbers_of_the_training(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, rounded = LinearPolicy.loss, []

    def noted(self: LinearPolicy, module: Any, batch: Mapping[str, Tensor]) -> LossReport:
        rounded.append((module.training, torch.is_autocast_enabled("cpu")))
        return loss(self, module, batch)

    monkeypatch.setattr(LinearPolicy, "loss", noted)
    for precision in ("fp32", "bf16"):
        engine = {"name": "single", "device": "cpu", "precision": precision}
        run(make_recipe(precision, train={**held_out(), "steps": 1, "engine": engine, "self_check": "off"}))
        assert set(rounded) == {(True, precision == "bf16"), (False, precision == "bf16")}
        rounded.clear()


def test_a_training_without_room_says_what_helps(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinearPolicy, "loss", lambda self, module, batch: torch.empty(2**58))
    with pytest.raises(OutOfMemory, match=r"no room .*allocate memory.* Lower train\.batch\.per_device"):
        run(make_recipe())


def test_a_figure_that_held_out_data_do_not_have_is_refused_before_the_first_step(
    make_recipe: Any, tmp_path: Path
) -> None:
    with pytest.raises(
        RecipeError, match=r"^train\.keep_best: no figure 'validation/l1\.gripperr'\. Did you"
    ):
        run(make_recipe(train={**held_out(), "keep_best": "validation/l1.gripperr"}))
    assert lines(tmp_path / "run", "train") == []


@pytest.mark.parametrize("samples", [5, 1000])
def test_held_out_figures_do_not_depend_on_how_the_samples_are_cut(
    samples: int, make_recipe: Any, tmp_path: Path
) -> None:
    losses = []
    for cut in (1, 2, 4):
        settings = {**held_out(), "steps": 1}
        settings["validation"] = {**settings["validation"], "samples": samples}
        run(make_recipe(f"by-{cut}", train={**settings, "batch": {"total": 4, "per_device": cut}}))
        losses.append(lines(tmp_path / f"by-{cut}", "validation")[0]["loss"])
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-6)


def test_the_best_checkpoint_by_held_out_loss_is_kept(make_recipe: Any, tmp_path: Path) -> None:
    settings = {
        **held_out(every=1),
        "save_every": 2,
        "keep": 1,
        "optimizer": {"lr": 0.5},
        "keep_best": "validation/loss",
    }
    run(make_recipe(train=settings))
    losses = {line["step"]: line["loss"] for line in lines(tmp_path / "run", "validation")}
    best = min(range(2, 13, 2), key=lambda step: losses[step])
    kept = [int(path.name.removeprefix("step-")) for path in checkpoints_of(tmp_path / "run")]
    assert kept == sorted({best, 12})


@pytest.mark.parametrize(
    ("train", "path", "reason"),
    [
        ({"validation": {"every": 5}}, "train.validation", r"data\.0 \(dots-episodes\) has no splits"),
        ({"keep_best": "validation/loss"}, "train.keep_best", "give train.validation"),
        (
            {"validation": {"every": 5, "data": [{"name": "dots-episodes", "dataset": "other"}]}},
            "train.validation.data",
            "'other' is measured and not trained on, .* trained on are dots",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    train: dict[str, Any], path: str, reason: str, make_recipe: Any
) -> None:
    with pytest.raises(RecipeError, match=rf"^{path}: .*{reason}") as caught:
        run(make_recipe(train=train))
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("train", r"trains on the split 'train', so it cannot be validated on"),
        ("val", r"Hold a part of the training data out: data\.0\.split=train\[:95%\]"),
    ],
)
def test_a_split_that_is_not_there_says_how_to_make_one(
    split: str, reason: str, make_recipe: Any, tmp_path: Path
) -> None:
    data = {
        "name": "demonstrations",
        "environment": "dots",
        "root": str(tmp_path / "data"),
        "dataset": "made",
        "episodes": 3,
    }
    with pytest.raises(RecipeError, match=reason):
        run(make_recipe(data=[data], train={"validation": {"every": 5, "split": split}}))


def test_two_processes_average_and_measure_and_skip_as_one(
    make_recipe: Any, install: Any, read_curve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes under fsdp, gone on as one under ddp; the poison is in the second one alone."""
    install(
        "openvla-poisoned",
        {"policy": {"poisoned": "poisoned:PoisonedConfig"}},
        modules={"poisoned": POISONED},
    )
    monkeypatch.setenv("POISON", "1")
    settings = {
        **held_out(),
        "on_nonfinite": "skip",
        "optimizer": {"lr": 0.01, "ema": {"decay": 0.9, "use": True}},
        "self_check": "off",
    }
    one = run(make_recipe("one", policy="poisoned", train={**settings, **ONE_PASS}))
    recipe = make_recipe(
        "two",
        policy="poisoned",
        train={**settings, "steps": 6, "engine": {"name": "fsdp", "device": "cpu"}, "batch": {"total": 4}},
    )
    file = tmp_path / "two.yaml"
    file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "openvla_toolkit", "run", str(file), "--nproc", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("POISON")
    two = run(make_recipe("two", policy="poisoned", train={**settings, **ONE_PASS}), resume=True)
    curves = [read_curve(tmp_path / name) for name in ("one", "two")]
    for step, line in curves[0].items():
        assert {**curves[1][step], "total": 12} == pytest.approx(line, rel=1e-4)
    assert curves[1][12]["skipped_updates"] == 1
    torch.testing.assert_close(weights(two.checkpoint)["weight"], weights(one.checkpoint)["weight"])
