"""A checkpoint that acts otherwise than it was trained is found out, and so is one that does not look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from openvla_toolkit.action_heads.token_head import TokenHead
from openvla_toolkit.core.errors import NotAsTrained
from openvla_toolkit.core.types import ActionChunk
from openvla_toolkit.policies.prismatic import policy as prismatic
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import tiny_policy
from openvla_toolkit.testing.fakes.linear import LinearPolicy


@pytest.fixture
def tokens(make_recipe: Any) -> Callable[..., Any]:
    """Return a recipe of a small token policy that learns two short episodes by heart."""

    def make(**train: Any) -> Any:
        section = {"steps": 60, "batch": {"total": 8}, "optimizer": {"lr": 5e-3}, **train}
        data = [{"name": "dots-episodes", "episodes": 2}]
        return make_recipe(policy=tiny_policy().model_dump(mode="json"), data=data, train=section)

    return make


def found(output: Path) -> dict[str, Any]:
    (figures,) = json.loads((output / "self_check.json").read_text())["checkpoints"]
    return cast("dict[str, Any]", figures)


def test_a_policy_that_acts_as_it_was_trained(tokens: Any, tmp_path: Path) -> None:
    result = run(tokens())
    figures = found(tmp_path / "run")
    assert [figures] == result.self_check
    assert figures["problems"] == []
    assert figures["ids_agreed"] == 1
    assert figures["numbers_compared"] >= 4
    assert figures["largest_difference"] < 0.01
    assert any(line.startswith("self-check of step-000060: 100.0% of ") for line in result.summary)


def test_another_prompt_when_it_acts_is_found_out(
    tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = TokenHead.decode_ids

    def shifted(self: TokenHead, model: Any, batch: Any, *, count: int) -> Any:
        upside_down = {
            **batch,
            "pixel_values": -batch["pixel_values"],
            "input_ids": batch["input_ids"].flip(1),
        }
        return ids(self, model, upside_down, count=count)

    monkeypatch.setattr(TokenHead, "decode_ids", shifted)
    with pytest.raises(
        NotAsTrained, match=r"step-000060 does not act as it was trained: .* dots: '.*acting chooses"
    ):
        run(tokens())
    assert found(tmp_path / "run")["ids_agreed"] < 1


def test_other_statistics_when_it_acts_are_found_out(tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    back = prismatic.unnormalize
    monkeypatch.setattr(prismatic, "unnormalize", lambda *given: back(*given) * 1.3)
    with pytest.raises(NotAsTrained, match=r"with the recorded id, a number is .* from the recorded one"):
        run(tokens())


def test_a_wrong_turn_within_the_answer_is_found_out(tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first id is right, and the cache forgets what was said."""
    chunks = OpenVLAPolicy.predict_chunks

    def forgetful(self: OpenVLAPolicy, observations: Any, *, unnorm_key: str | None = None) -> Any:
        answers = chunks(self, observations, unnorm_key=unnorm_key)
        ids = [np.concatenate([one.tokens[:, :1], one.tokens[:, 1:] - 1], axis=1) for one in answers]
        return [ActionChunk(actions=one.actions, tokens=own) for one, own in zip(answers, ids, strict=True)]

    monkeypatch.setattr(OpenVLAPolicy, "predict_chunks", forgetful)
    with pytest.raises(NotAsTrained, match="Prompt, pictures, padding or cache differ"):
        run(tokens())


def test_warning_goes_on_and_off_does_not_look(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = LinearPolicy.predict_chunks

    def mirrored(self: LinearPolicy, observations: Any, *, unnorm_key: str | None = None) -> Any:
        answers = chunks(self, observations, unnorm_key=unnorm_key)
        return [ActionChunk(actions=-one.actions) for one in answers]

    monkeypatch.setattr(LinearPolicy, "predict_chunks", mirrored)
    with pytest.raises(
        NotAsTrained, match="numbers are not as far from the recorded ones as training reports"
    ):
        run(make_recipe("error"))
    assert run(make_recipe("warn", train={"self_check": "warn"})).checkpoint is not None
    assert "does not act as it was trained" in caplog.text
    result = run(make_recipe("off", train={"self_check": "off"}))
    assert result.self_check == []
    assert not (tmp_path / "off" / "self_check.json").exists()


def test_a_policy_that_does_not_look_is_named(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss = LinearPolicy.loss

    def blind(self: LinearPolicy, module: Any, batch: Any) -> Any:
        with torch.no_grad():
            module.weight.zero_()
        return loss(self, module, batch)

    monkeypatch.setattr(LinearPolicy, "loss", blind)
    monkeypatch.setattr(LinearPolicy, "predict_chunks", _blind(LinearPolicy.predict_chunks))
    result = run(make_recipe())
    (figures,) = result.self_check
    assert figures["warnings"][0].startswith("the policy answers 12 different frames with the same action")
    assert "self-check of step-000012: the policy answers" in caplog.text


def _blind(chunks: Any) -> Any:
    def answers(self: LinearPolicy, observations: Any, *, unnorm_key: str | None = None) -> Any:
        with torch.no_grad():
            self.module.weight.zero_()
        return chunks(self, observations, unnorm_key=unnorm_key)

    return answers


def test_the_best_checkpoint_is_looked_at_as_well(tokens: Any, tmp_path: Path) -> None:
    """With a rate that makes it worse, the best one is an earlier one, and the figures of both stay."""
    told = run(tokens(steps=4, optimizer={"lr": 0.5}, save_every=1, keep=1, keep_best="loss", log_every=1))
    names = [figures["checkpoint"] for figures in told.self_check]
    assert names == sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(names) == 2
    said = [line.split(":")[0] for line in told.summary if line.startswith("self-check of") and "%" in line]
    assert said == [f"self-check of {name}" for name in names]


def test_a_difference_that_rounding_makes_is_left_aside(
    tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logits level: whichever id acting takes is as good as any other."""
    told = TokenHead._choice

    def level(self: TokenHead, logits: Any) -> Any:
        ids, lead = told(self, logits)
        return ids - 1, torch.zeros_like(lead)

    monkeypatch.setattr(TokenHead, "_choice", level)
    result = run(tokens())
    figures = found(tmp_path / "run")
    assert figures["near_ties"] == figures["frames"] == 6  # of each frame the first id
    assert any(", 6 near ties left aside" in line for line in result.summary)
