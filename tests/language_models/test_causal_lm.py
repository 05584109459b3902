"""Language models from ``transformers``' own classes, and the tokenizer that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from openvla_toolkit.core.errors import MissingFile, UserError
from openvla_toolkit.language_models import CausalLMConfig, PrismaticLanguageConfig
from openvla_toolkit.language_models.tokenizer import open_tokenizer

LLAMA: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TABLETOP = open_tokenizer("tabletop")


def built(config: CausalLMConfig) -> tuple[Any, Any]:
    """Build module and tokenizer; transformers' types say too little about what is asked of them here."""
    return tuple(config.build())  # type: ignore[return-value]


def fresh(**more: Any) -> CausalLMConfig:
    return CausalLMConfig(**({"model_type": "llama", "settings": LLAMA, "tokenizer": "tabletop"} | more))


def test_there_is_an_embedding_for_every_id_in_rounded_rows() -> None:
    module, tokenizer = built(fresh())
    rows = module.get_input_embeddings().weight.shape[0]
    assert len(tokenizer) <= rows < len(tokenizer) + 64
    assert rows % 64 == 0
    assert module.config.pad_token_id == tokenizer.pad_token_id == tokenizer.vocab_size
    assert (module.config.bos_token_id, module.config.eos_token_id) == (1, 2)


def test_another_architecture_is_only_another_name() -> None:
    module, _ = built(fresh(model_type="qwen2", settings={**LLAMA, "num_key_value_heads": 1}))
    assert type(module).__name__ == "Qwen2ForCausalLM"


def test_fresh_weights_have_the_spread_that_was_asked_for() -> None:
    module, _ = built(fresh(init_std=0.1, embedding_std=0.5, output_std=0.01))
    assert module.get_input_embeddings().weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert module.get_output_embeddings().weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert module.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(0.1, rel=0.2)


def test_pretrained_weights_get_room_for_the_padding_token(tmp_path: Path) -> None:
    module, tokenizer = built(fresh(pad_to_multiple_of=1))
    module.resize_token_embeddings(tokenizer.vocab_size)
    module.config.pad_token_id = None
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = built(CausalLMConfig(weights=str(tmp_path)))
    assert again.get_input_embeddings().weight.shape[0] == 1344
    name, before = next(iter(module.model.layers.named_parameters()))
    assert (dict(again.model.layers.named_parameters())[name] == before).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "either 'weights'"),
        ({"weights": "a/b", "model_type": "llama", "tokenizer": "tabletop"}, "either 'weights'"),
        ({"weights": "a/b", "settings": {"hidden_size": 1}}, "bring their own"),
        ({"model_type": "llama"}, "need a 'tokenizer'"),
        ({"model_type": "llama", "tokenizer": "tabletop", "settings": {"vocab_size": 5}}, "comes from the"),
    ],
)
def test_contradictory_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CausalLMConfig(**given)


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match="cannot make 'lama'"):
        fresh(model_type="lama").build()
    with pytest.raises(MissingFile, match=r"no tokenizer 'nowhere/at-all'.*tabletop"):
        fresh(tokenizer="nowhere/at-all").build()
    with pytest.raises(MissingFile, match="no language model in 'nowhere/at-all'"):
        CausalLMConfig(weights="nowhere/at-all", tokenizer="tabletop").build()


def test_the_tabletop_tokenizer_has_llama_s_layout() -> None:
    pieces = TABLETOP.convert_ids_to_tokens
    assert pieces([0, 1, 2]) == ["<unk>", "<s>", "</s>"]
    assert pieces([3, 258]) == ["<0x00>", "<0xFF>"]
    assert TABLETOP.convert_tokens_to_ids("▁") == 259
    last = range(TABLETOP.vocab_size - 256, TABLETOP.vocab_size)
    assert pieces(list(last)) == [f"<action_{number:03d}>" for number in range(256)]
    assert TABLETOP.pad_token_id == TABLETOP.vocab_size


def test_every_word_of_an_instruction_is_one_piece() -> None:
    text = "In: What action should the robot take to pick up the red cube?\nOut:"
    assert TABLETOP.convert_ids_to_tokens(TABLETOP(text).input_ids) == [
        *("<s>", "▁In", ":", "▁What", "▁action", "▁should", "▁the", "▁robot", "▁take", "▁to"),
        *("▁pick", "▁up", "▁the", "▁red", "▁cube", "?", "<0x0A>", "Out", ":"),
    ]


@given(st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=40))
@settings(max_examples=200)
def test_any_text_is_read_back_and_never_uses_action_ids(text: str) -> None:
    if any(special in text for special in ("<s>", "</s>", "<unk>", "<PAD>")):
        return
    ids = TABLETOP(text, add_special_tokens=False).input_ids
    assert max(ids, default=0) < TABLETOP.vocab_size - 256
    assert TABLETOP.decode(ids) == text


def test_a_prismatic_language_model_by_id_is_a_causal_language_model() -> None:
    small = {**LLAMA, "num_key_value_heads": 1}
    config = PrismaticLanguageConfig(id="vicuna-v15-7b", settings=small, tokenizer="tabletop")
    module, tokenizer = built(config)
    assert type(module).__name__ == "LlamaForCausalLM"
    assert (module.config.hidden_size, module.config.rms_norm_eps) == (16, 1e-5)
    assert tokenizer.pad_token == "<PAD>"
    assert config.architecture() == config.plain()
    assert isinstance(config.architecture(), CausalLMConfig)


def test_published_weights_come_from_the_hub_with_the_right_padding_token() -> None:
    config = PrismaticLanguageConfig(id="phi-2-3b", pretrained=True, attention="eager").plain()
    assert (config.weights, config.pad_token, config.attention) == ("microsoft/phi-2", "<|pad|>", "eager")
    unreachable = PrismaticLanguageConfig(id="llama2-7b-pure")
    with pytest.raises(MissingFile, match="no tokenizer 'meta-llama/Llama-2-7b-hf'"):
        unreachable.build()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "llama2-7b"}, r"Did you mean 'llama2-7b-\w+'\?"),
        ({"id": "phi-2-3b", "pretrained": True, "settings": {"hidden_size": 8}}, "leave them out"),
    ],
)
def test_contradictory_settings_of_an_id_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PrismaticLanguageConfig(**given)


def test_the_padding_token_can_be_named(tmp_path: Path) -> None:
    TABLETOP.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("pad_token", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    assert open_tokenizer(str(tmp_path), pad_token="<|pad|>").pad_token == "<|pad|>"
