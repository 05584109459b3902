"""The stages of a recipe, in order, with what each leaves behind."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import ContractMismatch, RecipeError, TrainingError, UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.stages.training import self_check
from openvla_toolkit.testing import DotsConfig, DotsEpisodesConfig, LinearPolicy


def test_training_lowers_the_loss_and_leaves_a_policy(make_recipe: Any, read_curve: Any) -> None:
    recipe = make_recipe(train={"steps": 60, "optimizer": {"lr": 0.05}})
    result = run(recipe)
    losses = [line["loss"] for line in read_curve(recipe.output).values()]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert result.checkpoint is not None
    policy = load_policy(result.checkpoint)
    assert policy.contract.robot == DotsConfig().interface()
    assert list(policy.statistics) == ["dots"]


def test_a_run_repeats_itself(make_recipe: Any, read_curve: Any) -> None:
    for name in ("one", "two"):
        run(make_recipe(name))
    other = make_recipe("three", seed=8)
    run(other)
    folder = other.output.parent
    assert read_curve(folder / "one") == read_curve(folder / "two") != read_curve(folder / "three")


def test_the_shuffle_is_the_one_that_is_asked_for(make_recipe: Any, read_curve: Any) -> None:
    curves = []
    for number, shuffle in enumerate(["global", {"name": "blocks", "block": 3, "window": 1}, "global"]):
        recipe = make_recipe(str(number), train={"loader": {"shuffle": shuffle}})
        run(recipe)
        curves.append(read_curve(recipe.output))
    assert curves[0] == curves[2] != curves[1]


def test_micro_batches_do_not_change_the_curve(make_recipe: Any, read_curve: Any) -> None:
    for name, per_device in (("whole", None), ("split", 1)):
        run(make_recipe(name, train={"batch": {"total": 4, "per_device": per_device}}))
    folder = make_recipe().output.parent
    whole, split = read_curve(folder / "whole"), read_curve(folder / "split")
    for step, line in whole.items():
        assert split[step] == pytest.approx(line, rel=1e-4)


def test_metrics_are_means_since_the_last_line(make_recipe: Any, read_curve: Any) -> None:
    every, third = make_recipe("every"), make_recipe("third", train={"log_every": 5})
    run(every)
    run(third)
    fine, coarse = read_curve(every.output), read_curve(third.output)
    assert list(coarse) == [5, 10, 12]
    for step, steps in ((5, range(1, 6)), (10, range(6, 11)), (12, (11, 12))):
        assert coarse[step]["loss"] == pytest.approx(sum(fine[one]["loss"] for one in steps) / len(steps))
        assert coarse[step]["lr"] == fine[step]["lr"]
        assert coarse[step]["total"] == 12


@pytest.mark.parametrize("steps", [0, None])
def test_epochs_are_counted_in_whole_batches(steps: int | None, make_recipe: Any, read_curve: Any) -> None:
    frames = sum(len(episode) for episode in DotsEpisodesConfig().build())
    batch = next(size for size in range(5, 20) if frames % size)
    settings = make_recipe(train={"batch": {"total": batch}}).model_dump(mode="json")
    settings["train"].update(steps=steps, epochs=2)
    recipe = Recipe.from_mapping(settings)
    run(recipe)
    assert max(read_curve(recipe.output)) == 2 * (frames // batch + 1)
    again = Recipe.load(recipe.output / "recipe.lock.yaml")
    assert again.train == recipe.train


@pytest.mark.parametrize("end", [{}, {"steps": 3, "epochs": 1}])
def test_a_training_ends_by_steps_or_by_epochs(make_recipe: Any, end: dict[str, int]) -> None:
    settings = make_recipe().model_dump(mode="json")
    del settings["train"]["steps"]
    settings["train"].update(end)
    with pytest.raises(RecipeError, match="train: give either 'steps' or 'epochs'"):
        Recipe.from_mapping(settings)


def test_evaluators_see_the_policy_before_and_after(make_recipe: Any, counting: Any, measured: Any) -> None:
    recipe = make_recipe(evaluate=[counting(), counting(before_training=True, episodes=2)])
    result = run(recipe)
    assert list(result.evaluations) == ["before-1-counting", "after-0-counting", "after-1-counting"]
    assert [config.episodes for config in measured] == [2, 1, 2]
    before, after = (result.evaluations[f"{label}-1-counting"]["weight"] for label in ("before", "after"))
    assert before != after
    policy = load_policy(result.checkpoint or "")
    assert after == policy.module.weight[0, 0].item()  # type: ignore[union-attr, operator, index]
    *lines, checked = result.summary
    assert lines == [
        "before training:",
        f"weight {before:.3f}",
        "after training:",
        *[f"weight {after:.3f}"] * 2,
    ]
    assert checked.startswith("self-check of step-000012: ")
    for name in result.evaluations:
        folder = recipe.output / "evaluation" / name
        assert json.loads((folder / "result.json").read_text()) == result.evaluations[name]
        assert (folder / "episodes.jsonl").exists()


def test_what_was_measured_is_not_measured_again(make_recipe: Any, counting: Any, measured: Any) -> None:
    evaluate = [counting(before_training=True)]
    first = run(make_recipe(evaluate=evaluate))
    assert len(measured) == 2
    again = run(make_recipe(evaluate=evaluate), resume=True)
    assert len(measured) == 2
    assert again.evaluations == first.evaluations


def test_a_prolonged_run_is_measured_again(make_recipe: Any, counting: Any, measured: Any) -> None:
    evaluate = [counting(before_training=True)]
    first = run(make_recipe(evaluate=evaluate)).evaluations
    longer = run(make_recipe(evaluate=evaluate, train={"steps": 20}), resume=True).evaluations
    assert len(measured) == 3
    assert longer["before-0-counting"] == first["before-0-counting"]
    assert longer["after-0-counting"]["weight"] != first["after-0-counting"]["weight"]
    assert longer["after-0-counting"]["measured"]["checkpoint"] == "step-000020"


def test_figures_from_before_are_kept_only_with_the_same_settings(
    make_recipe: Any, counting: Any, measured: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(make_recipe(evaluate=[counting(before_training=True)]))
    other = counting(before_training=True, episodes=9)
    result = run(make_recipe(evaluate=[other]), resume=True)
    assert list(result.evaluations) == ["after-0-counting"]
    said = [record.message for record in caplog.records if record.name.startswith("openvla_toolkit")]
    assert ["before-0-counting were measured with other settings" in line for line in said] == [True]


def test_an_evaluator_with_other_settings_is_asked_again(
    make_recipe: Any, counting: Any, measured: Any
) -> None:
    run(make_recipe(evaluate=[counting(episodes=1)]))
    run(make_recipe(evaluate=[counting(episodes=7)]), resume=True)
    assert [config.episodes for config in measured] == [1, 7]


def test_a_recipe_may_only_measure(make_recipe: Any, counting: Any, measured: Any) -> None:
    trained = run(make_recipe()).checkpoint
    policy = {"name": "dots-linear", "weights": str(trained)}
    result = run(make_recipe("only", policy=policy, data=[], trains=False, evaluate=[counting()]))
    assert list(result.evaluations) == ["evaluate-0-counting"]
    assert result.checkpoint is None


def test_closed_loop_improves_with_training(make_recipe: Any) -> None:
    """The real evaluator, worker processes and all, on the fake world."""
    evaluator = {"name": "closed-loop", "environment": "dots", "episodes": 6, "workers": 1, "filmstrips": 0}
    result = run(make_recipe(train={"steps": 100}, evaluate=[evaluator]))
    figures = result.evaluations["after-0-closed-loop"]
    assert figures["success"]["episodes"] == 6
    assert result.summary[0].startswith("success ")


def test_the_benchmark_has_a_row_per_size(make_recipe: Any) -> None:
    recipe = make_recipe(benchmark={"repeats": 3, "warmup": 1})
    run(recipe)
    figures = json.loads((recipe.output / "benchmark.json").read_text())
    assert [row["name"].split(",")[1].strip() for row in figures["rows"]] == [
        "1 observation(s)",
        "8 observation(s)",
    ]
    for row, size in zip(figures["rows"], (1, 8), strict=True):
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["actions_per_second"] == pytest.approx(size * 1e3 / row["p50_ms"])
    assert figures["settings"]["repeats"] == 3
    assert figures["settings"]["device"] == "cpu"
    assert {"machine", "date"} <= figures.keys()


def test_a_recipe_may_only_prepare(make_recipe: Any) -> None:
    recipe = make_recipe(policy=None, trains=False, data=[{"name": "dots-episodes", "dataset": "fresh"}])
    assert run(recipe).checkpoint is None
    stages = [
        json.loads(line)["stage"] for line in (recipe.output / "metrics.jsonl").read_text().splitlines()
    ]
    assert stages == ["prepare index fresh"]


def test_a_failure_is_told_and_raised(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: LinearPolicy, module: Any, batch: Any) -> Any:
        report = loss(self, module, batch)
        return report._replace(total=report.total * torch.inf)

    loss = LinearPolicy.loss
    monkeypatch.setattr(LinearPolicy, "loss", explode)
    recipe = make_recipe()
    with pytest.raises(TrainingError, match="step 1: the loss is inf"):
        run(recipe)
    assert not (recipe.output / "checkpoints").exists()


def test_two_data_sets_make_a_mixture(make_recipe: Any) -> None:
    data = [
        {"name": "dots-episodes", "dataset": "one", "weight": 3.0},
        {"name": "dots-episodes", "dataset": "two", "seed": 50},
    ]
    result = run(make_recipe(data=data))
    assert set(load_policy(result.checkpoint or "").statistics) == {"one", "two"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([{"name": "dots-episodes"}] * 2, "two data sets are named 'dots'"),
        (
            [
                {"name": "dots-episodes"},
                {
                    "name": "dots-episodes",
                    "dataset": "other",
                    "embodiment": {
                        "name": "dots-robot",
                        "action": [{"name": n, "unit": "m", "reference": "delta"} for n in "abc"],
                    },
                },
            ],
            r"'dots' and 'other' have different actions",
        ),
    ],
)
def test_data_sets_that_do_not_go_together(make_recipe: Any, data: Any, complaint: str) -> None:
    with pytest.raises(ContractMismatch, match=complaint):
        run(make_recipe(data=data))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"policy": None}, "^policy: this recipe trains or measures a policy and names none"),
        ({"data": []}, "^data: this recipe trains a policy and names no data"),
    ],
)
def test_a_recipe_that_lacks_a_part(make_recipe: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        run(make_recipe(**changes))


def test_a_mapping_or_a_file_will_do(make_recipe: Any, tmp_path: Path) -> None:
    plain = make_recipe("mapping").model_dump(mode="json")
    assert run(plain, ["train.steps=2"]).checkpoint is not None
    file = tmp_path / "recipe.yaml"
    file.write_text(make_recipe("file").to_yaml())
    last = run(file, ["train.steps=3"]).checkpoint
    assert last is not None
    assert last.name == "step-000003"
    with pytest.raises(UserError, match="overrides go with a file or a mapping"):
        run(make_recipe("object"), ["train.steps=2"])


def test_the_trained_policy_is_gone_when_the_saved_one_is_loaded(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them may not fit on a device."""
    alive: list[weakref.ref[Any]] = []
    loss, check = LinearPolicy.loss, self_check.self_check
    left: list[int] = []

    def noting(self: LinearPolicy, module: Any, batch: Any) -> Any:
        if not alive:
            module.circle = [module]
            alive.append(weakref.ref(module))
        return loss(self, module, batch)

    def counting(*given: Any, **named: Any) -> Any:
        left.append(sum(one() is not None for one in alive))
        return check(*given, **named)

    monkeypatch.setattr(LinearPolicy, "loss", noting)
    monkeypatch.setattr(self_check, "self_check", counting)
    gc.disable()
    try:
        run(make_recipe())
    finally:
        gc.enable()
    assert (len(alive), left) == (1, [0])
