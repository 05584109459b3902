"""What cannot work is refused before hours are spent; what can is put where it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from openvla_toolkit.core import devices
from openvla_toolkit.core.errors import ContractMismatch, MissingFile, RecipeError, UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.policies.prismatic.model import PrismaticModel
from openvla_toolkit.stages.preflight import check_recipe
from openvla_toolkit.stages.run_recipe import _sample_flops, run
from openvla_toolkit.testing import tiny_policy

ROOT = Path(__file__).parents[2]


class SeeingConfig(EvaluatorConfig):
    """Says where the policy's parameters are and of which type they are."""

    name: Literal["seeing"] = "seeing"

    def build(self) -> Any:
        return self

    def evaluate(self, policy: Any, folder: Path, progress: Any) -> Mapping[str, Any]:
        parameter = next(policy.module.parameters())
        return {"summary": [], "device": str(parameter.device), "dtype": str(parameter.dtype)}


CLOSED = {"name": "closed-loop", "environment": "dots", "episodes": 2, "workers": 1}
OPEN = {"name": "open-loop", "data": "dots-episodes"}


@pytest.mark.parametrize(
    ("evaluator", "error", "complaint"),
    [
        ({**CLOSED, "families": ["tuch"]}, RecipeError, "no task family 'tuch'. Did you mean 'touch'"),
        ({**CLOSED, "unnorm_key": "bridge"}, ContractMismatch, "no statistics named 'bridge'"),
        ({**CLOSED, "environment": "tabletop"}, ContractMismatch, "environment 'tabletop' do not agree"),
        ({**OPEN, "unnorm_key": "bridge"}, ContractMismatch, "no statistics named 'bridge'"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused_before_training(
    make_recipe: Any, evaluator: Any, error: type[UserError], complaint: str
) -> None:
    recipe = make_recipe(evaluate=[evaluator])
    with pytest.raises(error, match=complaint):
        run(recipe)
    assert not (recipe.output / "checkpoints").exists()


def test_statistics_must_be_chosen_where_there_are_several(make_recipe: Any) -> None:
    data = [{"name": "dots-episodes", "dataset": name} for name in ("one", "two")]
    recipe = make_recipe(data=data, evaluate=[CLOSED])
    with pytest.raises(ContractMismatch, match="unnorm_key is needed to choose the statistics"):
        run(recipe)
    assert not (recipe.output / "checkpoints").exists()


def test_missing_weights_are_missed_before_the_data_is_made(make_recipe: Any) -> None:
    data = [{"name": "dots-episodes", "dataset": "unread"}]
    recipe = make_recipe(policy={"name": "dots-linear", "weights": "no-such-policy"}, data=data)
    with pytest.raises(MissingFile, match="no policy 'no-such-policy'"):
        run(recipe)
    told = recipe.output / "metrics.jsonl"
    assert not told.exists() or "prepare" not in told.read_text()


def test_training_in_another_type_is_refused(make_recipe: Any) -> None:
    recipe = make_recipe(policy={"name": "dots-linear", "dtype": "bfloat16"})
    with pytest.raises(RecipeError, match=r"^policy\.dtype: .*precision: bf16"):
        run(recipe)
    assert not recipe.output.exists()


def refusal(*words: str) -> str | None:
    """Return why the small QLoRA recipe is refused with more overrides; None where it is not."""
    recipe = Recipe.load(ROOT / "recipes" / "tiny" / "finetune-qlora.yaml", words)
    try:
        check_recipe(recipe)
    except RecipeError as error:
        return str(error)
    return None


def test_quantised_weights_are_refused_where_the_engine_would_spread_them() -> None:
    for engine in ("{name: fsdp}", "{name: fsdp, sharding: hybrid, shard_size: 1}"):
        said = refusal(f"train.engine={engine}")
        assert said is not None
        assert said.startswith("policy.quantization: weights in 4bit are quantised, and the engine 'fsdp'")
        assert "train.engine.name=ddp" in said
    assert refusal() is refusal("train.engine.name=ddp") is None
    assert refusal("train.engine.name=fsdp", "policy.quantization=null") is None


def test_quantised_weights_under_deepspeed() -> None:
    pytest.importorskip("openvla_deepspeed")
    assert "'deepspeed'" in (refusal("train.engine={name: deepspeed, stage: 3}") or "")
    assert refusal("train.engine={name: deepspeed, stage: 2, offload: optimizer}") is None


def test_operations_of_a_sample_are_known_or_missed_with_a_word(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They serve the figure 'mfu' alone: no error in them may end a training."""
    tiny = make_recipe(policy=tiny_policy().model_dump(mode="json"))
    cuda = torch.device("cuda")
    assert _sample_flops(tiny, torch.device("cpu")) is None
    assert (_sample_flops(tiny, cuda) or 0) > 1e6
    assert _sample_flops(make_recipe(), cuda) is None, "a policy that offers no rehearsal"
    assert caplog.text == ""
    monkeypatch.setattr(PrismaticModel, "rehearse", lambda self, **part: self.no_such_part)
    assert _sample_flops(tiny, cuda) is None
    assert "the metrics will have no 'mfu': the policy cannot be rehearsed (AttributeError" in caplog.text


def test_a_policy_is_measured_in_the_type_asked_for(make_recipe: Any) -> None:
    policy = tiny_policy().model_dump(mode="json")
    trained = run(make_recipe(policy=policy, train={"steps": 1})).checkpoint
    measured = {"name": "openvla", "weights": str(trained), "dtype": "bfloat16"}
    result = run(make_recipe("only", policy=measured, data=[], trains=False, evaluate=[SeeingConfig()]))
    assert result.evaluations["evaluate-0-seeing"]["dtype"] == "torch.bfloat16"


def test_the_engines_device_is_the_policys(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, and measuring what was trained, ask for no other device."""
    asked: list[str] = []
    monkeypatch.setattr(
        devices, "usable_device", lambda name, setting: asked.append(name) or torch.device("cpu")
    )
    run(make_recipe(train={"engine": {"name": "single", "device": "cpu:0"}}, evaluate=[SeeingConfig()]))
    assert set(asked) == {"cpu:0"}


def test_a_policy_that_is_only_measured_goes_to_the_best_device(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device ``meta`` stands for an accelerator: it is everywhere, and what is moved there is seen."""
    asked: list[str] = []
    monkeypatch.setattr(
        devices, "usable_device", lambda name, setting: asked.append(name) or torch.device("meta")
    )
    policy = {"name": "dots-linear"}
    recipe = make_recipe(policy=policy, trains=False, evaluate=[SeeingConfig()])
    assert run(recipe).evaluations["evaluate-0-seeing"]["device"] == "meta"
    assert asked == ["auto"]


def test_a_device_that_is_not_there_is_refused_first(make_recipe: Any) -> None:
    engine = {"name": "single", "device": "cuda:99"}
    recipe = make_recipe(train={"engine": engine}, evaluate=[SeeingConfig(before_training=True)])
    with pytest.raises(UserError, match=r"train\.engine\.device 'cuda:99' is not usable here"):
        run(recipe)


@pytest.mark.gpu
def test_before_and_after_on_the_gpu(make_recipe: Any) -> None:
    recipe = make_recipe(
        train={"engine": {"name": "single", "device": "cuda"}},
        evaluate=[SeeingConfig(before_training=True), CLOSED],
        benchmark={"repeats": 1, "warmup": 0},
    )
    figures = run(recipe).evaluations
    for label in ("before", "after"):
        assert figures[f"{label}-0-seeing"]["device"] == "cuda:0"
    assert '"device": "cuda:0"' in (recipe.output / "benchmark.json").read_text()
