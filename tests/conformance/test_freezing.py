"""What each training stage of the original trains, in the names of its training runs."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from torch import nn

from openvla_toolkit.checkpoints.formats.key_names import from_native
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.policies.prismatic.freezing import freeze, stage_parts, trained_parts
from tests.conformance import kit
from tests.conformance.originals import model_of, policy_of

MODULES = {"llm_backbone": "language_model"}
"""What the toolkit calls modules that have another name in training runs."""


def stages() -> list[tuple[str, str]]:
    """Return model and stage of every record."""
    files = sorted((kit.root() / "training").glob("stages_*.json"))
    found = [(path.stem.removeprefix("stages_"), kit.recorded(f"training/{path.name}")) for path in files]
    return [(model, stage) for model, content in found for stage in content["stages"]]


def record(model: str) -> dict[str, Any]:
    content: dict[str, Any] = kit.recorded(f"training/stages_{model}.json")
    return content


def ours(name: str) -> str:
    module, _, key = name.partition(".")
    return from_native(module, key)


@cache
def network(model: str) -> nn.Module:
    return model_of(policy_of(kit.root() / "model" / model / "hf"))


@pytest.mark.parametrize("model", sorted({model for model, _ in stages()}))
def test_names_of_all_parameters(model: str) -> None:
    names = {name for name, _ in network(model).named_parameters()}
    assert {ours(name) for name in record(model)["all_parameters"]} == names


@pytest.mark.parametrize(("model", "stage"), stages())
def test_what_a_stage_trains(model: str, stage: str) -> None:
    expected = record(model)["stages"][stage]
    if expected == "ValueError":
        with pytest.raises(UserError, match=re.escape(f"no stage '{stage}'")):
            stage_parts(stage)
        return
    module = network(model)
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    freeze(module, stage_parts(stage))
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for parameter, value in before.items():
        parameter.requires_grad_(value)
    # The original also marks what its vision towers never execute; it gets no gradient there either.
    never = {name for name, parameter in module.named_parameters() if parameter in unused(module)}
    assert trained == {ours(name) for name in expected["trainable"]} - never
    assert expected["n_trainable"] == len(expected["trainable"])
    assert trained_parts(stage) == tuple(MODULES.get(key, key) for key in expected["trainable_module_keys"])
    assert (
        any(name.startswith("vision_backbone") for name in trained)
        == expected["vision_backbone_requires_grad"]
    )


def unused(module: Any) -> set[nn.Parameter]:
    return {parameter for part in module.vision_backbone.never_executed() for parameter in part.parameters()}
