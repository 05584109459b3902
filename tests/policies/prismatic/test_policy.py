"""From observations to actions in the robot's units, and onto the disk and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import CheckpointError, ContractMismatch, UserError
from openvla_toolkit.core.statistics import Statistics
from openvla_toolkit.core.types import Observation, Sample
from openvla_toolkit.policies import OpenVLAConfig
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from openvla_toolkit.testing import tiny_policy


@pytest.fixture
def saved(policy: OpenVLAPolicy, tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    policy.save(folder)
    return folder


def test_a_batch_of_mixed_lengths_answers_as_each_alone(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    together = policy.predict_chunks(observations)
    for observation, chunk in zip(observations, together, strict=True):
        alone = policy.predict_chunks([observation])[0]
        np.testing.assert_array_equal(chunk.tokens, alone.tokens)
        np.testing.assert_array_equal(chunk.actions, alone.actions)
    assert policy.predict_chunks([]) == []


def test_actions_are_bin_centres_in_the_robot_s_units(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    chunk = policy.predict_chunks(observations[:1])[0]
    assert chunk.tokens is not None
    centres = policy.head.targets._code.decode(chunk.tokens)  # type: ignore[attr-defined]
    low, high = np.array([-1.0, -2.0, 0.0]), np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(chunk.actions[:, :3], 0.5 * (centres[:, :3] + 1) * (high - low) + low)
    np.testing.assert_array_equal(chunk.actions[:, 3], centres[:, 3])  # the gripper is not normalised


def test_constrained_answers_are_the_best_action_ids_of_the_whole_vocabulary(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    model: Any = policy.module
    batch = {
        key: torch.from_numpy(value)
        for key, value in policy.processor.collate(
            [policy.processor.encode_observation(one) for one in observations], side="left"
        ).items()
    }
    answers: list[Any] = policy.predict_chunks(observations)
    chosen = torch.from_numpy(np.stack([chunk.tokens[0] for chunk in answers]))
    with torch.no_grad():
        hidden, state = model.prefill(
            batch["input_ids"], batch["attention_mask"], model.image_features(batch["pixel_values"])
        )
        for column in chosen.T:
            logits = model.logits(hidden)[:, :1300]
            assert (logits[:, 1300 - 256 :].argmax(dim=-1) + 1300 - 256).tolist() == column.tolist()
            hidden, state = model.decode_step(column, state)


def test_chunks_of_several_actions(make_policy: Any, observations: list[Observation]) -> None:
    policy = make_policy(chunk=3)
    chunks = policy.predict_chunks(observations)
    assert [chunk.actions.shape for chunk in chunks] == [(3, 4)] * 3
    np.testing.assert_array_equal(policy.predict_action(observations), [chunk.actions[0] for chunk in chunks])


def test_pictures_and_words_may_come_in_several_forms(
    policy: OpenVLAPolicy, make_policy: Any, observations: list[Observation]
) -> None:
    shown = observations[0]
    expected = policy.predict_action(shown)
    assert expected.shape == (4,)
    np.testing.assert_array_equal(policy.predict_action(shown.images, shown.instruction), expected)
    pillow = {name: Image.fromarray(picture) for name, picture in shown.images.items()}
    np.testing.assert_array_equal(
        policy.predict_action([pillow, shown.images], shown.instruction), [expected] * 2
    )
    one = make_policy(cameras=["wrist"])
    answer = one.predict_action(Image.fromarray(shown.images["wrist"]), "go")
    np.testing.assert_array_equal(answer, one.predict_action(shown.images["wrist"], "go", unnorm_key="toy"))


def test_what_is_missing_for_an_answer_is_said(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    with pytest.raises(UserError, match="an instruction is needed"):
        policy.predict_action(observations[0].images)
    with pytest.raises(UserError, match="leave the second argument out"):
        policy.predict_action(observations[0], "go")
    with pytest.raises(UserError, match="looks at 2 cameras; give a mapping with primary, wrist"):
        policy.predict_action(observations[0].images["wrist"], "go")
    with pytest.raises(ContractMismatch, match=r"no statistics named 'other'.*toy \(4-D action, 10 frames\)"):
        policy.predict_action(observations[0], unnorm_key="other")


def test_answering_leaves_the_training_mode_as_it_was(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    policy.module.train()
    policy.predict_action(observations[0])
    assert policy.module.training
    policy.activations(observations[0])
    assert policy.module.training


def test_training_goes_on_after_a_failed_answer(
    policy: OpenVLAPolicy, observations: list[Observation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise MemoryError

    policy.module.train()
    monkeypatch.setattr(policy.head, "decode", failing)
    with pytest.raises(MemoryError):
        policy.predict_action(observations[0])
    assert all(module.training for module in policy.module.modules())


def test_pictures_of_another_size_than_the_robot_s_are_refused(
    policy: OpenVLAPolicy, observations: list[Observation]
) -> None:
    shown = observations[0]
    wide = {**shown.images, "wrist": np.zeros((48, 64, 3), dtype=np.uint8)}
    message = r"camera 'wrist' is 48 x 64 pixels .*trained on 32 x 32: resize it .*fine-tune"
    with pytest.raises(ContractMismatch, match=message):
        policy.predict_action(wide, "go")
    with pytest.raises(ContractMismatch, match=message):
        policy.predict_chunks([shown, Observation(images=wide, instruction="go")])
    unused = {**shown.images, "shoulder": wide["wrist"]}  # it does not look at that one
    np.testing.assert_array_equal(
        policy.predict_action(unused, shown.instruction), policy.predict_action(shown)
    )


def test_a_policy_without_a_known_robot_takes_pictures_of_any_size(statistics: dict[str, Statistics]) -> None:
    policy = tiny_policy(cameras=["primary"]).build(statistics=statistics)
    assert isinstance(policy, OpenVLAPolicy)
    assert policy.predict_action(np.zeros((48, 64, 3), dtype=np.uint8), "go").shape == (4,)


def test_a_saved_policy_comes_back_the_same(
    policy: OpenVLAPolicy, saved: Path, observations: list[Observation], samples: list[Sample]
) -> None:
    again = load_policy(saved)
    assert isinstance(again, OpenVLAPolicy)
    assert again.contract == policy.contract
    assert {key: entry.to_json() for key, entry in again.statistics.items()} == {
        key: entry.to_json() for key, entry in policy.statistics.items()
    }
    assert again.module.state_dict().keys() == policy.module.state_dict().keys()
    batch = policy.processor.collate([again.processor.encode(sample) for sample in samples])
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    assert again.loss(again.module, tensors).total.item() == policy.loss(policy.module, tensors).total.item()
    np.testing.assert_array_equal(again.predict_action(observations), policy.predict_action(observations))
    assert not any(parameter.is_meta for parameter in again.module.parameters())


def test_every_learnable_part_is_learnable_after_loading(policy: OpenVLAPolicy, saved: Path) -> None:
    again = OpenVLAConfig(weights=str(saved)).build()
    for (name, before), after in zip(
        policy.module.named_parameters(), again.module.parameters(), strict=True
    ):
        assert before.requires_grad == after.requires_grad, name


def test_bf16_on_disk_is_half_the_size_and_nearly_the_same(
    policy: OpenVLAPolicy, saved: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    half.mkdir()
    policy.save(half, dtype=torch.bfloat16)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (half, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    again = load_policy(half)
    for before, after in zip(policy.module.parameters(), again.module.parameters(), strict=True):
        assert after.dtype == torch.float32
        torch.testing.assert_close(after, before.to(torch.bfloat16).float())
    assert next(load_policy(half, dtype="bfloat16").module.parameters()).dtype == torch.bfloat16


def test_a_bf16_policy_answers(saved: Path, observations: list[Observation]) -> None:
    assert np.isfinite(load_policy(saved, dtype="bfloat16").predict_action(observations)).all()  # type: ignore[attr-defined]


def test_an_engine_s_weights_are_written_instead_of_the_module_s(
    policy: OpenVLAPolicy, tmp_path: Path
) -> None:
    weights = {name: torch.zeros_like(value) for name, value in policy.module.state_dict().items()}
    policy.save(tmp_path, weights=weights)
    assert not any(parameter.any() for parameter in load_policy(tmp_path).module.parameters())


def test_tied_embeddings_are_stored_once_and_stay_tied(
    make_policy: Any, tmp_path: Path, observations: list[Observation]
) -> None:
    language = tiny_policy().model_dump()["language_model"]
    language["settings"]["tie_word_embeddings"] = True
    policy = make_policy(language_model=language)
    policy.save(tmp_path)
    again = load_policy(tmp_path)
    assert isinstance(again, OpenVLAPolicy)
    model: Any = again.module.language_model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    np.testing.assert_array_equal(again.predict_action(observations), policy.predict_action(observations))


def test_new_data_adds_its_robot_and_statistics(
    saved: Path, robot: Interface, statistics: dict[str, Statistics]
) -> None:
    faster = robot.model_copy(update={"control_hz": 20.0})
    again = OpenVLAConfig(weights=str(saved)).build(robot=faster, statistics={"new": statistics["toy"]})
    assert again.contract.robot.control_hz == 20
    assert sorted(again.statistics) == ["new", "toy"]
    blind = robot.model_copy(update={"cameras": {"primary": robot.cameras["primary"]}})
    with pytest.raises(ContractMismatch, match="looks at camera 'wrist'; the robot of the data has primary"):
        OpenVLAConfig(weights=str(saved)).build(robot=blind)


def test_what_agrees_with_the_checkpoint_may_be_said_again(saved: Path) -> None:
    settings = tiny_policy().model_dump(exclude_none=True)
    settings["language_model"]["attention"] = "eager"
    again = OpenVLAConfig(**settings | {"weights": str(saved), "freeze": ["projector"]}).build()
    assert not again.module.projector.fc1.weight.requires_grad  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"prompt": "vicuna-v15"}, r"policy.prompt.name is 'vicuna-v15'.*made with 'pure'"),
        ({"projector": "linear"}, r"policy.projector is 'linear'.*made with 'gelu-mlp'"),
        ({"chunk": 2}, r"policy.chunk is 2.*made with 1"),
        ({"cameras": ["primary"]}, r"policy.cameras is .*'primary'.*made with .*'wrist'"),
        ({"normalization": {"method": "bounds"}}, "policy.normalization.method is 'bounds'"),
    ],
)
def test_a_setting_that_contradicts_the_checkpoint_is_refused(
    saved: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        OpenVLAConfig(weights=str(saved), **setting).build()


def test_another_architecture_is_refused_by_its_setting(saved: Path) -> None:
    vision = tiny_policy().model_dump()["vision_backbone"]
    vision["options"]["embed_dim"] = 64
    with pytest.raises(CheckpointError, match=r"vision_backbone.options.embed_dim is 64.*made with 32"):
        OpenVLAConfig(weights=str(saved), vision_backbone=vision).build()


def test_from_scratch_needs_both_backbones() -> None:
    with pytest.raises(ValidationError, match="give 'weights'"):
        OpenVLAConfig(cameras=("primary",))


def test_a_policy_without_a_robot_has_an_empty_interface() -> None:
    assert tiny_policy().build().contract.robot.action == ()


@pytest.mark.parametrize(
    "name", ["contract.json", "dataset_statistics.json", "tokenizer.json", "config.json"]
)
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_damaged_parts_are_named(saved: Path, name: str, damage: str) -> None:
    part = saved / name
    if damage == "gone":
        part.unlink()
    else:
        part.write_text(part.read_text()[:-20])
    with pytest.raises(
        CheckpointError, match=name if (name, damage) != ("config.json", "gone") else "no policy"
    ):
        load_policy(saved)


def test_a_damaged_language_model_description_is_named(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["text_config"]["model_type"] = "lama"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'text_config' does not describe a language model"):
        load_policy(saved)
