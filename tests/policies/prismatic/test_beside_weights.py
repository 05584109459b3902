"""Settings given beside ``weights``: attention may be chosen anew, fresh numbers may not be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.testing import tiny_policy
from tests.policies.prismatic.conftest import Make

PARTS = ("vision_backbone", "language_model")
BOTH_EAGER, BOTH_SDPA = ("eager", "eager"), ("sdpa", "sdpa")


def parts(**settings: Any) -> dict[str, dict[str, Any]]:
    """Return the tiny policy's backbones with further settings in both."""
    own = tiny_policy().model_dump(exclude_unset=True)
    return {part: {**own[part], **settings} for part in PARTS}


def attention(policy: Any) -> tuple[str, str]:
    """Return what really computes in the vision backbone and in the language model."""
    fused = {
        block.attn.fused_attn for tower in policy.module.vision_backbone.towers() for block in tower.blocks
    }
    assert len(fused) == 1
    language: Any = policy.module.language_model
    return "sdpa" if fused == {True} else "eager", language.config._attn_implementation


@pytest.fixture
def eager(make_policy: Make, tmp_path: Path) -> str:
    """Save a policy that was made with eager attention in both parts."""
    policy = make_policy(**parts(attention="eager"))
    assert attention(policy) == BOTH_EAGER
    (tmp_path / "eager").mkdir()
    policy.save(tmp_path / "eager")
    return str(tmp_path / "eager")


def test_the_stored_attention_is_honoured(eager: str) -> None:
    assert attention(load_policy(eager)) == BOTH_EAGER
    assert attention(OpenVLAConfig(weights=eager).build()) == BOTH_EAGER
    assert attention(OpenVLAConfig.model_validate({"weights": eager, **parts()}).build()) == BOTH_EAGER


@pytest.mark.parametrize("part", PARTS)
def test_each_part_s_attention_may_be_chosen_anew(eager: str, part: str, tmp_path: Path) -> None:
    given = {part: parts(attention="sdpa")[part]}
    expected = ("sdpa", "eager") if part == PARTS[0] else ("eager", "sdpa")
    policy = OpenVLAConfig.model_validate({"weights": eager, **given}).build()
    assert attention(policy) == expected
    assert attention(load_policy(eager, **given)) == expected
    (tmp_path / "again").mkdir()
    policy.save(tmp_path / "again")
    assert attention(load_policy(tmp_path / "again")) == expected


def test_the_policy_s_attention_is_that_of_both_parts(eager: str) -> None:
    assert attention(load_policy(eager, attention="sdpa")) == BOTH_SDPA
    assert attention(tiny_policy(attention="eager").build()) == BOTH_EAGER
    given = {"weights": eager, "attention": "sdpa", **parts(attention="eager")}
    assert attention(OpenVLAConfig.model_validate(given).build()) == BOTH_SDPA


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_backbone", "pretrained", True),
        ("vision_backbone", "init_std", 0.5),
        ("vision_backbone", "position_std", 0.5),
        ("language_model", "init_std", 0.5),
        ("language_model", "embedding_std", 0.5),
        ("language_model", "output_std", 0.5),
    ],
)
def test_fresh_numbers_beside_weights_are_refused(eager: str, part: str, key: str, value: object) -> None:
    given = {part: parts(**{key: value})[part]}
    with pytest.raises(CheckpointError, match=rf"policy\.{part}\.{key} is {value}, but .* bring their own"):
        OpenVLAConfig.model_validate({"weights": eager, **given}).build()


def test_a_fresh_projector_beside_weights_is_refused(eager: str) -> None:
    with pytest.raises(CheckpointError, match=r"policy\.projector_std is 0.5, but .* bring their own"):
        OpenVLAConfig(weights=eager, projector_std=0.5).build()


def test_what_the_weights_were_drawn_with_may_be_said_again(make_policy: Make, tmp_path: Path) -> None:
    drawn = {**parts(init_std=0.1), "projector_std": 0.2}
    folder = tmp_path
    for name in ("first", "second", "third"):  # a checkpoint of a checkpoint remembers it too
        policy = make_policy(**drawn) if name == "first" else OpenVLAConfig(weights=str(folder)).build()
        folder = tmp_path / name
        folder.mkdir()
        policy.save(folder)
        OpenVLAConfig.model_validate({"weights": str(folder), **drawn}).build()


def test_a_device_that_is_not_there_is_said_before_anything_is_built(
    eager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVLAConfig, "build", lambda *_, **__: pytest.fail("the policy was built"))
    for device in ("cuda:99", "abacus"):
        with pytest.raises(UserError, match=rf"device '{device}' is not usable here: .*Take 'cpu'"):
            load_policy(eager, device=device)


def test_a_number_type_that_is_none_is_named(eager: str) -> None:
    with pytest.raises(UserError, match=r"cannot load with 'dtype': .*'bfloat16'"):
        load_policy(eager, dtype="int8")  # type: ignore[arg-type]
