"""The class of transformers computes what the policy's network computes, in every arrangement of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, DynamicCache, Qwen2ForCausalLM

from openvla_toolkit.core.errors import ContractMismatch, UserError
from openvla_toolkit.policies.prismatic.hugging_face import (
    OpenVLAForActionPrediction,
    PrismaticConfig,
    PrismaticForConditionalGeneration,
)
from openvla_toolkit.policies.prismatic.policy import OpenVLAPolicy
from tests.policies.prismatic.hugging_face.conftest import Words

TEXTS = ("push the red cube", "lift", "put the blue ball on the plate")


def test_only_the_picture_changes_and_the_logits_change(
    model: Any, words: Words, pixels: torch.Tensor
) -> None:
    batch = words(TEXTS[0])
    with torch.no_grad():
        one, other = (model(**batch, pixel_values=pixels[i : i + 1]).logits[0, -1] for i in (0, 1))
    assert (one - other).abs().max() > 1e-3


def test_only_the_picture_changes_and_the_generated_scores_change(
    model: Any, words: Words, pixels: torch.Tensor
) -> None:
    settings = {
        "max_new_tokens": 2,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    one, other = (
        model.generate(**words(TEXTS[0]), pixel_values=pixels[i : i + 1], **settings).logits for i in (0, 1)
    )
    assert (one[0] - other[0]).abs().max() > 1e-3


def test_an_empty_cache_does_not_hide_the_picture(model: Any, words: Words, pixels: torch.Tensor) -> None:
    batch = words(TEXTS[0])
    inputs = model.prepare_inputs_for_generation(
        batch["input_ids"], past_key_values=DynamicCache(), pixel_values=pixels[:1]
    )
    assert inputs["pixel_values"] is not None
    assert inputs["input_ids"].shape == batch["input_ids"].shape


def test_logits_are_those_of_the_policy_s_network(
    model: Any, seeded: OpenVLAPolicy, words: Words, pixels: torch.Tensor
) -> None:
    batch = words(TEXTS[0])
    wanted = torch.ones_like(batch["input_ids"], dtype=torch.bool)
    wanted[:, 0] = False
    with torch.no_grad():
        expected = seeded.module(batch["input_ids"], pixels[:1], torch.tensor([0]), wanted)
        found = model(**batch, pixel_values=pixels[:1]).logits[0]
    torch.testing.assert_close(found[-len(expected) - 1 : -1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_row(model: Any, words: Words, pixels: torch.Tensor, side: str) -> None:
    batch = words(*TEXTS, side=side)
    with torch.no_grad():
        together = model(**batch, pixel_values=pixels).logits
        for row, text in enumerate(TEXTS):
            alone = model(**words(text), pixel_values=pixels[row : row + 1]).logits[0]
            real = len(alone)
            part = together[row, -real:] if side == "left" else together[row, :real]
            torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", [torch.tensor([0, 2]), torch.tensor([True, False, True])])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_mixes_rows_with_and_without_pictures(
    model: Any, words: Words, pixels: torch.Tensor, side: str, given: torch.Tensor
) -> None:
    batch = words(*TEXTS, side=side)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        mixed = model(**batch, labels=labels, pixel_values=pixels, multimodal_indices=given)
        fewer = model(**batch, labels=labels, pixel_values=pixels[[0, 2]], multimodal_indices=given)
        total, count = 0.0, 0
        for row, text in enumerate(TEXTS):
            alone = words(text)
            pictured = {"pixel_values": pixels[row : row + 1]} if row != 1 else {}
            # The place before a text's first token is padding or a patch; nothing predicts that token.
            loss = model(**alone, labels=alone["input_ids"], **pictured).loss
            tokens = alone["input_ids"].shape[1] - 1
            total, count = total + float(loss) * tokens, count + tokens
    assert float(mixed.loss) == pytest.approx(float(fewer.loss), rel=1e-6)
    assert float(mixed.loss) == pytest.approx(total / count, rel=1e-4)


def test_rows_generate_the_same_alone_and_in_a_mixed_batch(
    model: Any, words: Words, pixels: torch.Tensor
) -> None:
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    batch = words(*TEXTS)
    pictured = torch.tensor([True, False, True])
    together = model.generate(**batch, pixel_values=pixels, multimodal_indices=pictured, **settings)
    for row, text in enumerate(TEXTS):
        given = {"pixel_values": pixels[row : row + 1]} if pictured[row] else {}
        alone = model.generate(**words(text), **given, **settings)
        assert alone[0, -5:].tolist() == together[row, -5:].tolist()


def test_the_cache_changes_nothing(model: Any, words: Words, pixels: torch.Tensor) -> None:
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pixel_values": pixels}
    with_cache = model.generate(**words(*TEXTS), **settings)
    without = model.generate(**words(*TEXTS), **settings, use_cache=False)
    assert with_cache.tolist() == without.tolist()


def test_a_cache_of_fixed_size_is_refused(model: Any, words: Words, pixels: torch.Tensor) -> None:
    with pytest.raises(UserError, match="no room for patches"):
        model.generate(
            **words(TEXTS[0]), pixel_values=pixels[:1], max_new_tokens=3, cache_implementation="static"
        )


def test_several_beams_share_a_picture(model: Any, words: Words, pixels: torch.Tensor) -> None:
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 3}
    found = model.generate(**words(TEXTS[0]), pixel_values=pixels[:1], **settings)
    again = model.generate(**words(TEXTS[0]), pixel_values=pixels[:1], **settings, use_cache=False)
    assert found.tolist() == again.tolist()


def test_the_projector_s_features_come_when_asked_for(model: Any, words: Words, pixels: torch.Tensor) -> None:
    batch = words(TEXTS[0])
    with torch.no_grad():
        plain = model(**batch, pixel_values=pixels[:1])
        asked = model(**batch, pixel_values=pixels[:1], output_projector_features=True, return_dict=False)
    assert plain.projector_features is None
    torch.testing.assert_close(asked[-1], model.image_features(pixels[:1]))


def test_gradients_reach_the_vision_backbone(model: Any, words: Words, pixels: torch.Tensor) -> None:
    model.freeze_backbones("full-finetune")
    model.train()
    batch = words(TEXTS[0])
    model(**batch, labels=batch["input_ids"], pixel_values=pixels[:1]).loss.backward()
    assert model.vision_backbone.featurizer.patch_embed.proj.weight.grad.abs().sum() > 0
    model.freeze_backbones("align")
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"projector"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs_embeds": torch.zeros(1, 2, 32)}, UserError, "either input_ids or inputs_embeds"),
        (
            {"pixel_values": torch.zeros(2, 3, 32, 32)},
            ContractMismatch,
            r"\[2, 3, 32, 32\]; expected \[1, 3 per",
        ),
        ({"pixel_values": torch.zeros(1, 4, 32, 32)}, ContractMismatch, r"expected \[1, 3 per view"),
        ({"pixel_values": torch.zeros(1, 3, 32, 48)}, ContractMismatch, r"view, 32, 32\]"),
        ({"multimodal_indices": torch.tensor([3])}, UserError, r"\[3\]; the batch has rows 0 to 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Any, words: Words, change: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model(**words(TEXTS[0]), **change)


def test_a_picture_after_the_first_token_is_refused(model: Any, words: Words, pixels: torch.Tensor) -> None:
    with torch.no_grad():
        cache = model(**words(TEXTS[0]), pixel_values=pixels[:1], use_cache=True).past_key_values
    with pytest.raises(UserError, match="cache is not empty"):
        model(input_ids=torch.tensor([[5]]), pixel_values=pixels[:1], past_key_values=cache)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_gives_the_same(
    folder: Path, words: Words, pixels: torch.Tensor, attention: str, model: Any
) -> None:
    other = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    ).eval()
    assert other.language_model.config._attn_implementation == attention
    with torch.no_grad():
        expected = model(**words(*TEXTS), pixel_values=pixels).logits
        found = other(**words(*TEXTS), pixel_values=pixels).logits
    # Rows of padding attend to nothing, and what comes of that is each implementation's own.
    torch.testing.assert_close(found[:, -1], expected[:, -1], rtol=1e-4, atol=1e-4)


def test_a_mask_of_another_length_is_refused(model: Any, words: Words, pixels: torch.Tensor) -> None:
    batch = words(TEXTS[0])
    mask = batch["attention_mask"][:, 1:]
    with pytest.raises(UserError, match="attention_mask covers"):
        model(batch["input_ids"], mask, pixels[:1])


def test_more_rows_leave_action_ids_where_they_were(model: Any) -> None:
    before = model.config.action_vocabulary()
    model.resize_token_embeddings(model.config.text_config.vocab_size + 5, pad_to_multiple_of=64)
    assert model.get_output_embeddings().weight.shape[0] == model.config.text_config.vocab_size
    assert model.config.text_config.vocab_size % 64 == 0
    assert model.config.action_vocabulary() == before == model.vocab_size


def test_saving_keeps_names_and_values(model: Any, folder: Path, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "again")
    again: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "again", dtype=torch.float32)
    assert isinstance(again, OpenVLAForActionPrediction)
    expected = model.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict().items())
    assert again.norm_stats == model.norm_stats


@pytest.mark.parametrize("tied", [True, False])
def test_any_language_model_can_stand_in_it(tmp_path: Path, tied: bool) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": tied}
    tower = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 16}
    config = PrismaticConfig(
        timm_model_ids=["vit_tiny_patch16_224"],
        image_sizes=[32],
        timm_options=[tower],
        text_config={"model_type": "qwen2", **sizes, **heads},
    )
    torch.manual_seed(0)
    model = PrismaticForConditionalGeneration(config).eval()
    assert isinstance(model.language_model, Qwen2ForCausalLM)
    model.save_pretrained(tmp_path)
    again = PrismaticForConditionalGeneration.from_pretrained(tmp_path).eval()
    shared = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert shared == tied
    batch = {"input_ids": torch.tensor([[1, 5, 9]]), "pixel_values": torch.ones(1, 3, 32, 32)}
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, model(**batch).logits)
