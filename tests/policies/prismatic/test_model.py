"""The network: patches after the first token, padding without influence, three ways through it that agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from openvla_toolkit.core.types import IGNORED, ConversationSample, Observation, Sample, Turn
from openvla_toolkit.policies.prismatic.model import PrismaticModel, splice
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy

TURNS = (Turn("human", "where is the red cube?"), Turn("gpt", "left"))


def plain_logits(model: Any, ids: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
    """Compute the logits [L, V] that predict each token of one unpadded sample, the straightforward way."""
    embeddings = model.language_model.get_input_embeddings()(ids[None])
    patches = 0
    if pixels is not None:
        views = pixels.reshape(2, 3, 32, 32)
        features = model.projector(model.vision_backbone(views)).reshape(1, -1, 32)
        patches = features.shape[1]
        embeddings = torch.cat([embeddings[:, :1], features, embeddings[:, 1:]], dim=1)
    logits: torch.Tensor = model.language_model(inputs_embeds=embeddings).logits[0]
    return logits[patches : patches + len(ids) - 1]


def conversation(sample: Sample | None = None) -> ConversationSample:
    return ConversationSample(images=sample.images if sample else {}, turns=TURNS, dataset="talk")


def test_padded_rows_have_the_logits_they_have_alone(
    policy: OpenVLAPolicy, samples: list[Sample], tensors: Callable[..., Any]
) -> None:
    items = [
        policy.processor.encode(one)
        for one in (samples[0], conversation(), samples[2], conversation(samples[1]))
    ]
    batch = tensors(policy, items)
    assert batch["image_rows"].tolist() == [0, 2, 3]
    wanted = batch["labels"] != IGNORED
    with torch.no_grad():
        logits = policy.module(batch["input_ids"], batch["pixel_values"], batch["image_rows"], wanted)
        expected = []
        for item in items:
            ids, labels = torch.from_numpy(item["input_ids"]), torch.from_numpy(item["labels"])
            pixels = torch.from_numpy(item["pixel_values"]) if "pixel_values" in item else None
            expected.append(plain_logits(policy.module, ids, pixels)[labels[1:] != IGNORED])
    torch.testing.assert_close(logits, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_a_batch_of_text_alone_needs_no_picture(policy: OpenVLAPolicy, tensors: Callable[..., Any]) -> None:
    items = [policy.processor.encode(conversation()) for _ in range(2)]
    batch = tensors(policy, items)
    assert batch["pixel_values"].shape == (0, 6, 32, 32)
    report = policy.loss(policy.module, batch)
    ids, labels = torch.from_numpy(items[0]["input_ids"]), torch.from_numpy(items[0]["labels"])
    alone = plain_logits(policy.module, ids, None)[labels[1:] != IGNORED]
    loss = torch.nn.functional.cross_entropy(alone, labels[1:][labels[1:] != IGNORED])
    assert report.total.item() / report.count.item() == pytest.approx(loss.item(), rel=1e-5)


def test_prefill_and_steps_read_what_one_pass_reads(
    policy: OpenVLAPolicy, observations: list[Observation], tensors: Callable[..., Any]
) -> None:
    model = policy.module
    assert isinstance(model, PrismaticModel)
    items = [policy.processor.encode_observation(observation) for observation in observations]
    batch = tensors(policy, items, side="left")
    more = torch.tensor([[300, 400, 500]] * len(items))
    with torch.no_grad():
        hidden, state = model.prefill(
            batch["input_ids"], batch["attention_mask"], model.image_features(batch["pixel_values"])
        )
        stepwise = [model.logits(hidden)]
        for column in more.T:
            hidden, state = model.decode_step(column, state)
            stepwise.append(model.logits(hidden))
        for row, item in enumerate(items):
            ids = torch.cat([torch.from_numpy(item["input_ids"]), more[row], torch.tensor([0])])
            whole = plain_logits(model, ids, torch.from_numpy(item["pixel_values"]))[-4:]
            torch.testing.assert_close(torch.stack(stepwise)[:, row], whole, rtol=1e-4, atol=1e-5)


def test_columns_of_the_output_layer_are_those_of_the_whole(policy: OpenVLAPolicy) -> None:
    model: Any = policy.module
    hidden, columns = torch.randn(3, 32), torch.tensor([5, 7, 1299])
    torch.testing.assert_close(model.logits(hidden, columns), model.logits(hidden)[:, columns])


def test_patches_stand_right_after_the_first_real_token() -> None:
    embeddings = torch.tensor([[[0.0], [0.0], [1.0], [2.0]], [[1.0], [2.0], [3.0], [4.0]]])
    features = torch.tensor([[[7.0], [8.0]], [[-7.0], [-8.0]]])
    spliced = splice(embeddings, features, torch.tensor([2, 0]))[..., 0]
    assert spliced.tolist() == [[0, 0, 1, 7, 8, 2], [1, -7, -8, 2, 3, 4]]
    assert splice(embeddings, features, None)[0, :, 0].tolist() == [0, 7, 8, 0, 1, 2]


@pytest.mark.parametrize("camera", ["primary", "wrist"])
def test_every_camera_s_picture_matters(
    policy: OpenVLAPolicy, observations: list[Observation], tensors: Callable[..., Any], camera: str
) -> None:
    model: Any = policy.module
    shown = observations[0]
    changed = Observation(
        images={**shown.images, camera: 255 - shown.images[camera]}, instruction=shown.instruction
    )
    batch = tensors(
        policy, [policy.processor.encode_observation(one) for one in (shown, changed)], side="left"
    )
    with torch.no_grad():
        features = model.image_features(batch["pixel_values"])
        hidden, state = model.prefill(batch["input_ids"], batch["attention_mask"], features)
        first = model.logits(hidden)
        later = model.logits(model.decode_step(torch.tensor([1300 - 9] * 2), state)[0])
    assert (first[0] - first[1]).abs().max() > 1e-4
    assert (later[0] - later[1]).abs().max() > 1e-4


def test_frozen_parts_take_no_gradient_and_the_rest_does(
    make_policy: Callable[..., OpenVLAPolicy], samples: list[Sample], tensors: Callable[..., Any]
) -> None:
    policy = make_policy(freeze=["vision_backbone", "language_model"])
    report = policy.loss(policy.module, tensors(policy, [policy.processor.encode(one) for one in samples]))
    report.total.backward()  # type: ignore[no-untyped-call]
    learned = {name.split(".")[0] for name, one in policy.module.named_parameters() if one.grad is not None}
    assert learned == {"projector"}


def test_parameters_have_the_names_of_published_checkpoints(
    make_policy: Callable[..., OpenVLAPolicy],
) -> None:
    names = set(make_policy(projector="fused-gelu-mlp").module.state_dict())
    assert {f"projector.fc{number}.{kind}" for number in (1, 2, 3) for kind in ("weight", "bias")} <= names
    assert {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"} <= names
    assert "vision_backbone.featurizer.patch_embed.proj.weight" in names
    parts = {name.split(".")[0] for name in names}
    assert parts == {"vision_backbone", "projector", "language_model"}
    linear = make_policy(projector="linear").module.state_dict()
    assert [name for name in linear if name.startswith("projector")] == [
        "projector.fc1.weight",
        "projector.fc1.bias",
    ]


def test_one_step_of_bf16_training_is_finite(
    policy: OpenVLAPolicy, samples: list[Sample], tensors: Callable[..., Any]
) -> None:
    batch = tensors(policy, [policy.processor.encode(one) for one in samples])
    with torch.autocast("cpu", torch.bfloat16):
        report = policy.loss(policy.module, batch)
    exact = policy.loss(policy.module, batch)
    assert report.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    assert np.isfinite(report.metrics["l1"][0].item())
