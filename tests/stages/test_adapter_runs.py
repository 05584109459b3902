"""Training an adapter: only it is saved, a stopped run goes on bit for bit, what was saved is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.engines import FSDPConfig, fsdp
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import DotsRobotConfig, tiny_policy

FIRST, LAST = "step-000006", "step-000012"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Save the tiny policy, untrained."""
    torch.manual_seed(0)
    folder = tmp_path / "base"
    folder.mkdir()
    tiny_policy(cameras=["primary"]).build(robot=DotsRobotConfig().build()).save(folder)
    return folder


def policy(base: Path, **settings: Any) -> dict[str, Any]:
    return {"name": "openvla", "weights": str(base), "lora": {"rank": 4, "dropout": 0.2}, **settings}


@pytest.mark.parametrize("more", [{}, {"quantization": "4bit"}], ids=["lora", "qlora"])
def test_a_stopped_run_goes_on_bit_for_bit(make_recipe: Any, read_curve: Any, base: Path, more: Any) -> None:
    adapter = policy(base, **more)
    straight = make_recipe("straight", policy=adapter, train={"save_every": 6, "loader": {"workers": 0}})
    run(straight)
    run(make_recipe("broken", policy=adapter, train={"steps": 6}))
    broken = make_recipe("broken", policy=adapter)
    result = run(broken, resume=True)
    assert result.checkpoint == broken.output / "checkpoints" / LAST
    curves = [read_curve(recipe.output) for recipe in (straight, broken)]
    for line in [line for curve in curves for line in curve.values()]:
        del line["total"]  # the first part was a run of six steps
    assert curves[0] == curves[1]
    ends = [
        load_file(recipe.output / "checkpoints" / LAST / "adapter_model.safetensors")
        for recipe in (straight, broken)
    ]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_checkpoints_hold_the_adapter_and_all_that_is_not_weights(make_recipe: Any, base: Path) -> None:
    recipe = make_recipe(policy=policy(base), train={"save_every": 6})
    run(recipe)
    first, last = (recipe.output / "checkpoints" / name for name in (FIRST, LAST))
    assert not list(recipe.output.rglob("model*.safetensors"))
    tuned, before = load_policy(last), load_policy(base)
    assert tuned.contract.robot == DotsRobotConfig().build()
    assert set(tuned.statistics) == {"dots"}
    moved = [
        name
        for name, value in tuned.module.state_dict().items()
        if not torch.equal(value, before.module.state_dict()[name])
    ]
    assert moved
    assert not any("embed_tokens" in name for name in moved)
    again, other = load_policy(first).module.state_dict(), tuned.module.state_dict()
    assert any(not np.array_equal(again[name], other[name]) for name in moved)


def test_the_trained_form_is_measured(make_recipe: Any, base: Path, measured: Any, counting: Any) -> None:
    del measured
    seen: list[Any] = []

    class Watching(counting):  # type: ignore[misc]
        def evaluate(self, policy: Any, folder: Path, progress: Any) -> Any:
            seen.append(policy)
            (folder / "episodes.jsonl").write_text("{}\n")
            return {"summary": []}

    run(make_recipe("full", policy=policy(base), evaluate=[Watching()]))
    run(make_recipe("few", policy=policy(base, quantization="4bit"), evaluate=[Watching()]))
    merged, apart = seen
    assert merged.weight_names() is None
    assert apart.weight_names() is not None
    assert not any(one.requires_grad for one in apart.module.parameters() if one.dtype == torch.uint8)
    assert not merged.module.training
    assert not apart.module.training


def test_few_bits_are_not_sharded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp, "join", lambda *_, **__: None)
    module = OpenVLAConfig.model_validate(policy(base, quantization="4bit")).build().module
    with pytest.raises(UserError, match=r"is quantised \(Params4bit\).*train.engine.name=ddp"):
        fsdp.Sharded(FSDPConfig(device="cpu")).place(module)


def test_what_cannot_be_trained_is_refused_before_anything_is_read(make_recipe: Any, base: Path) -> None:
    recipe = make_recipe(policy=policy(base, quantization="8bit"))
    with pytest.raises(RecipeError, match=r"policy.quantization: weights in 8bit cannot be trained"):
        run(recipe)
    assert not recipe.output.exists()
