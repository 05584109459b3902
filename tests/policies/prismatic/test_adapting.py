"""Adapters: fresh ones change nothing, trained ones act alike merged and apart, and they alone are saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError, MissingDependency, RecipeError, UserError
from openvla_toolkit.core.types import Observation
from openvla_toolkit.policies import Lora, OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.policies.prismatic.conftest import Make

CLOSE: Any = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def base(policy: OpenVLAPolicy, tmp_path: Path) -> Path:
    """Save the tiny policy, to be the base of adapters."""
    folder = tmp_path / "base"
    folder.mkdir()
    policy.save(folder)
    return folder


def settings(base: Path, *, lora: dict[str, Any] | None = None, **more: Any) -> OpenVLAConfig:
    return OpenVLAConfig.model_validate({"weights": str(base), "lora": lora or {}, **more})


def adapted(base: Path, *, lora: dict[str, Any] | None = None, **more: Any) -> OpenVLAPolicy:
    torch.manual_seed(0)
    policy = settings(base, lora=lora, **more).build()
    policy.module.to("cpu").eval()
    return policy


def as_if_trained(policy: OpenVLAPolicy) -> OpenVLAPolicy:
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return policy


def saved(policy: OpenVLAPolicy, folder: Path) -> Path:
    folder.mkdir()
    policy.save(folder)
    return folder


def logits(policy: Any, observation: Observation) -> torch.Tensor:
    return torch.from_numpy(policy.activations(observation)["logits"])


def trained(policy: OpenVLAPolicy) -> set[str]:
    return {name for name, one in policy.module.named_parameters() if one.requires_grad}


def test_a_fresh_adapter_changes_nothing_and_is_all_that_is_trained(
    base: Path, policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    fresh = adapted(base)
    assert torch.equal(logits(fresh, observations[0]), logits(policy, observations[0]))
    assert trained(fresh) <= set(fresh.weight_names() or ())
    unused: Any = fresh.module.vision_backbone
    never = {id(one) for module in unused.never_executed() for one in module.parameters()}
    kept = {name for name, one in fresh.module.named_parameters() if id(one) in never and ".lora_" in name}
    assert kept
    assert trained(fresh) == set(fresh.weight_names() or ()) - kept
    assert policy.weight_names() is None


@pytest.mark.parametrize(
    "lora",
    [{}, {"rank": 4, "alpha": 7.5}, {"rslora": True}, {"dora": True}, {"dora": True, "rslora": True}],
    ids=str,
)
def test_merged_apart_and_converted_act_alike(
    base: Path, observations: list[Observation], tmp_path: Path, lora: dict[str, Any]
) -> None:
    policy = as_if_trained(adapted(base, lora=lora))
    folder = saved(policy, tmp_path / "adapter")
    assert not (folder / "model.safetensors").exists()
    merged, apart = load_policy(folder), load_policy(folder, merge=False)
    for seen in observations:
        expected = logits(policy, seen)
        torch.testing.assert_close(logits(merged, seen), expected, **CLOSE)
        torch.testing.assert_close(logits(apart, seen), expected, **CLOSE)
    assert (expected - logits(load_policy(base), seen)).abs().max() > 1e-2
    convert(folder, tmp_path / "whole", to="hf")
    stored = load_file(tmp_path / "whole" / "model.safetensors")
    for name, value in merged.module.state_dict().items():
        assert torch.equal(stored[name], value.bfloat16())  # added in float32, then rounded once


def test_another_base_of_the_same_shapes_is_found_out(
    base: Path, make_policy: Make, observations: list[Observation], tmp_path: Path
) -> None:
    policy = as_if_trained(adapted(base))
    folder = saved(policy, tmp_path / "adapter")
    other = saved(make_policy(seed=1), tmp_path / "other")
    for merge in (True, False):
        with pytest.raises(CheckpointError, match=r"trained on other weights than those of .*other"):
            load_policy(folder, base=str(other), merge=merge)
    with pytest.raises(CheckpointError, match="trained on other weights"):
        convert(folder, tmp_path / "whole", to="hf", base=other)
    assert not (tmp_path / "whole").exists()
    convert(base, tmp_path / "rounded", to="hf", dtype="bfloat16")
    again = load_policy(folder, base=str(tmp_path / "rounded"))
    torch.testing.assert_close(
        logits(again, observations[0]), logits(policy, observations[0]), rtol=0.1, atol=0.1
    )


def test_the_last_adapter_can_be_the_base_of_another(
    base: Path, observations: list[Observation], tmp_path: Path
) -> None:
    first = saved(as_if_trained(adapted(base)), tmp_path / "first")
    policy = as_if_trained(adapted(first, lora={"rank": 2}))
    second = saved(policy, tmp_path / "second")
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == str(first)
    torch.testing.assert_close(
        logits(load_policy(second), observations[0]), logits(policy, observations[0]), **CLOSE
    )


@pytest.mark.parametrize(
    "lora", [{"rank": 4, "dropout": 0.5}, {"targets": ["language_model.*.q_proj"]}], ids=str
)
def test_training_goes_on_with_a_saved_adapter(
    base: Path, observations: list[Observation], tmp_path: Path, lora: dict[str, Any]
) -> None:
    policy = as_if_trained(adapted(base, lora=lora))
    folder = saved(policy, tmp_path / "adapter")
    again = settings(base, lora=lora).reloaded(str(folder), training=True).build()
    again.module.eval()
    assert trained(again) == trained(policy)
    assert torch.equal(logits(again, observations[0]), logits(policy, observations[0]))
    for name, value in again.module.state_dict().items():
        assert torch.equal(value, policy.module.state_dict()[name])
    assert (
        saved(again, tmp_path / "again").joinpath("adapter_config.json").read_text()
        == (folder / "adapter_config.json").read_text()
    )
    acting = settings(base, lora=lora).reloaded(str(folder), training=False).build()
    assert acting.weight_names() is None


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"rank": 8}, "the adapter has 'r' 4, and policy.lora asks for 8"),
        ({"dropout": 0.5}, "the adapter has 'lora_dropout' 0.0, and policy.lora asks for 0.5"),
        ({"init": "kaiming"}, "'init_lora_weights' 'gaussian', and policy.lora asks for True"),
        (
            {"targets": ["language_model.*.q_proj"]},
            r"an adapter of 'language_model\.lm_head', and policy\.lora\.targets asks for none",
        ),
    ],
    ids=str,
)
def test_an_adapter_of_other_settings_is_not_trained_on(
    asked: dict[str, Any], complaint: str, base: Path, tmp_path: Path
) -> None:
    folder = saved(adapted(base, lora={"rank": 4}), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=complaint):
        settings(base, lora={"rank": 4, **asked}).reloaded(str(folder), training=True).build()


def test_patterns_choose_layers_and_frozen_parts_get_none(base: Path) -> None:
    chosen = adapted(base, lora={"targets": ["projector.*", "language_model.*.1.*.q_proj"]})
    layers = {name.split(".lora_")[0] for name in chosen.weight_names() or ()}
    assert layers == {"projector.fc1", "projector.fc2", "language_model.model.layers.1.self_attn.q_proj"}
    partly = adapted(base, freeze=["vision_backbone", "projector"])
    assert {name.split(".")[0] for name in partly.weight_names() or ()} == {"language_model"}
    ends = adapted(base, freeze="vla-last-layer-train")
    layers = {name.split(".lora_")[0] for name in ends.weight_names() or ()}
    assert "language_model.lm_head" in layers
    assert all(
        name.startswith(("language_model.lm_head", "language_model.model.layers.1.")) for name in layers
    )


def test_an_output_layer_that_shares_its_weight_gets_no_adapter(make_policy: Make, tmp_path: Path) -> None:
    policy = make_policy()
    tied = policy.config.language_model.model_copy(  # type: ignore[union-attr]
        update={"settings": {**policy.config.language_model.settings, "tie_word_embeddings": True}}  # type: ignore[union-attr]
    )
    base = saved(make_policy(language_model=tied), tmp_path / "tied")
    names = adapted(base).weight_names() or ()
    assert names
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lora": {"targets": ["projector.fc9"]}}, r"'projector.fc9' fits no linear layer. Did you mean"),
        ({"lora": {"targets": ["projector.*"]}, "freeze": ["projector"]}, "no layer is left for an adapter"),
    ],
)
def test_layers_that_are_not_there_are_named(base: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapted(base, **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weights": None}, "'lora' trains an adapter of trained weights"),
        ({"lora": {"dora": True}, "quantization": "4bit"}, "'dora' goes by the lengths of full weights"),
        ({"lora": {"targets": []}}, "at least 1 item"),
        ({"freeze": "vla-trian"}, r"no stage 'vla-trian'. Did you mean 'vla-train'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    policy: OpenVLAPolicy, base: Path, more: dict[str, Any], message: str
) -> None:
    parts = {key: getattr(policy.config, key) for key in ("vision_backbone", "language_model")}
    with pytest.raises(ValidationError, match=message):
        OpenVLAConfig.model_validate({**parts, "weights": str(base), "lora": {}, **more})


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"quantization": "4bit"}, "policy.quantization"),
        ({"quantization": "8bit", "lora": {}}, "policy.quantization"),
        ({"dtype": "bfloat16"}, "policy.dtype"),
    ],
)
def test_what_cannot_be_trained_is_refused(base: Path, more: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        OpenVLAConfig.model_validate({"weights": str(base), **more}).check_trainable()
    assert refused.value.path == key
    settings(base, quantization="4bit", dtype="bfloat16").check_trainable()


def test_the_base_may_be_in_few_bits_and_types_and_the_adapter_is_not(
    base: Path, observations: list[Observation], tmp_path: Path
) -> None:
    policy = as_if_trained(adapted(base, quantization="4bit", dtype="bfloat16"))
    weights = dict(policy.module.named_parameters())
    assert {weights[name].dtype for name in policy.weight_names() or ()} == {torch.float32}
    layer = "language_model.model.layers.0.mlp.up_proj"
    assert weights[f"{layer}.base_layer.weight"].dtype == torch.uint8
    assert weights["projector.fc1.base_layer.weight"].dtype == torch.bfloat16
    folder = saved(policy, tmp_path / "adapter")
    config = settings(base, quantization="4bit", dtype="bfloat16")
    for training in (True, False):
        again = config.reloaded(str(folder), training=training).build()
        again.module.to("cpu").eval()
        assert torch.equal(logits(again, observations[0]), logits(policy, observations[0]))
        assert bool(trained(again)) == training
    assert load_policy(folder).weight_names() is None


def test_gradients_reach_the_adapter_through_few_bits(base: Path, samples: Any, tensors: Any) -> None:
    policy = adapted(base, quantization="4bit")
    policy.module.train()
    batch = tensors(policy, [policy.processor.encode(sample) for sample in samples])
    report = policy.loss(policy.module, batch)
    report.total.backward()
    halves = {name: one.grad for name, one in policy.module.named_parameters() if name in trained(policy)}
    assert all(grad is not None and grad.isfinite().all() for grad in halves.values())
    assert all(grad.abs().sum() > 0 for name, grad in halves.items() if ".lora_B." in name)


def test_the_originals_alpha() -> None:
    assert [Lora(rank=rank).alpha_or_default for rank in (4, 16, 32)] == [4, 16, 16]
    assert Lora(rank=4, alpha=9).alpha_or_default == 9


def test_without_peft_it_says_what_to_install(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r"training an adapter needs peft: pip install"):
        adapted(base)


def test_the_outline_has_the_shapes_and_no_numbers(base: Path) -> None:
    config = settings(base, freeze=["projector"])
    outline, policy = config.outline(), adapted(base, freeze=["projector"])
    assert outline is not None
    assert {one.device.type for one in outline.parameters()} == {"meta"}
    expected = {name: (one.shape, one.requires_grad) for name, one in policy.module.named_parameters()}
    assert {name: (one.shape, one.requires_grad) for name, one in outline.named_parameters()} == expected


def test_the_outline_of_what_is_not_here() -> None:
    seven_billion = OpenVLAConfig(weights="openvla/openvla-7b", lora=Lora()).outline()
    assert seven_billion is not None
    sizes = {name: one.numel() for name, one in seven_billion.named_parameters()}
    assert sum(sizes.values()) == 7_541_237_184 + 110_828_288
    assert OpenVLAConfig(weights="nobody/nothing").outline() is None
