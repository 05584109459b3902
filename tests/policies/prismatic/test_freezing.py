"""What each training stage trains."""

from __future__ import annotations

from typing import Any

import pytest

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.policies.prismatic.freezing import STAGES, freeze, stage_parts, trained_parts, withhold
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.policies.prismatic.conftest import Make

VISION, PROJECTOR, LANGUAGE = "vision_backbone", "projector", "language_model"
ENDS = {"embed_tokens", "layers.1", "lm_head"}


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("stage", "modules"),
    [
        ("align", (PROJECTOR,)),
        ("finetune", (PROJECTOR, LANGUAGE)),
        ("vla-train", (PROJECTOR, LANGUAGE)),
        ("full-finetune", (VISION, PROJECTOR, LANGUAGE)),
        ("vla-full-train", (VISION, PROJECTOR, LANGUAGE)),
        ("last-layer-finetune", (LANGUAGE,)),
        ("vla-last-layer-train", (LANGUAGE,)),
        ("vla-sandwich-train", (VISION, PROJECTOR, LANGUAGE)),
    ],
)
def test_modules_of_a_stage(policy: OpenVLAPolicy, stage: str, modules: tuple[str, ...]) -> None:
    model: Any = policy.module
    freeze(model, stage_parts(stage))
    assert trained_parts(stage) == modules
    assert {name.split(".")[0] for name in trained(model)} == set(modules)


def test_every_stage_is_tested_and_an_unknown_one_refused() -> None:
    assert len(STAGES) == 8
    with pytest.raises(UserError, match=r"no stage 'aline'\. Did you mean 'align'"):
        stage_parts("aline")


@pytest.mark.parametrize("stage", ["vla-last-layer-train", "vla-sandwich-train"])
def test_of_the_language_model_only_its_ends_are_trained(policy: OpenVLAPolicy, stage: str) -> None:
    model: Any = policy.module
    freeze(model, stage_parts(stage))
    names = {name for name in trained(model) if name.startswith(LANGUAGE)}
    assert names
    assert all(any(end in name for end in ENDS) for name in names)
    assert {end for end in ENDS if any(end in name for name in names)} == ENDS


def test_what_is_never_executed_stays_frozen(policy: OpenVLAPolicy) -> None:
    model: Any = policy.module
    freeze(model, ())
    unused = {id(p) for module in model.vision_backbone.never_executed() for p in module.parameters()}
    assert {id(p) for p in model.parameters() if not p.requires_grad} == unused != set()


def test_withholding_trains_nothing_anew(policy: OpenVLAPolicy) -> None:
    model: Any = policy.module
    model.projector.requires_grad_(False)
    withhold(model, ("vision_backbone",))
    assert {name.split(".")[0] for name in trained(model)} == {LANGUAGE}


def test_a_recipe_can_freeze_the_body_of_the_language_model(make_policy: Make) -> None:
    policy = make_policy(freeze=["language_model_body", "vision_backbone"])
    names = trained(policy.module)
    assert not any("layers.0" in name for name in names)
    assert any("layers.1" in name for name in names)


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_can_name_a_stage(make_policy: Make, stage: str) -> None:
    named, listed = make_policy(freeze=stage), make_policy(freeze=list(STAGES[stage]))
    assert named.config.freeze == STAGES[stage]
    assert trained(named.module) == trained(listed.module)


def test_blocks_that_cannot_be_told_apart_are_refused(make_policy: Make) -> None:
    model: Any = make_policy().module
    del model.language_model.base_model.layers
    with pytest.raises(UserError, match="has no 'layers'"):
        freeze(model, ("language_model_body",))
