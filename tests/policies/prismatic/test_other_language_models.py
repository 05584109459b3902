"""Any causal language model speaks actions: their ids are spliced as ids and never pass through text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.types import Observation, Sample

END = "<|endoftext|>"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {**SIZES, "tie_word_embeddings": True},
    "qwen3": {**SIZES, "head_dim": 16},
    "llama": {**SIZES, "tie_word_embeddings": True},  # SmolLM is a Llama
    "gemma": {**SIZES, "head_dim": 16},
    "mistral": {**SIZES, "sliding_window": 64},
    "phi": {**SIZES, "num_key_value_heads": 2, "partial_rotary_factor": 0.5},
    "gpt_neox": {key: value for key, value in SIZES.items() if key != "num_key_value_heads"},
}


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tokenizer of Qwen's kind: byte-level BPE without a beginning-of-sequence token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    corpus = [f"In: What action should the robot take to put {word} there?\nOut: " for word in "abcdefgh"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        corpus * 4, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END).save_pretrained(folder)
    return folder


@pytest.fixture
def make(byte_level: Path, make_policy: Any) -> Any:
    """Make a policy around a language model of some family."""

    def around(family: str) -> Any:
        language = {
            "name": "causal-lm",
            "model_type": family,
            "settings": FAMILIES[family],
            "tokenizer": str(byte_level),
        }
        return make_policy(language_model=language)

    return around


def test_text_would_not_have_brought_the_ids_back(byte_level: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(byte_level)
    last = list(range(tokenizer.vocab_size - 256, tokenizer.vocab_size))
    again = tokenizer(tokenizer.decode(last), add_special_tokens=False)["input_ids"]
    assert again != last


@pytest.mark.parametrize("family", FAMILIES)
def test_every_action_is_learned_and_spoken_as_its_own_ids(
    family: str, make: Any, observations: list[Observation], samples: list[Sample], tmp_path: Path
) -> None:
    policy = make(family)
    vocabulary = policy.tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
    rows = policy.module.language_model.get_input_embeddings().weight.shape[0]
    assert rows % 64 == 0
    assert rows > policy.tokenizer.pad_token_id >= vocabulary  # padding is none of the action ids
    edges = np.linspace(-1, 1, 256)
    for values in edges.reshape(64, 1, 4):
        item = policy.processor.encode(replace(samples[0], actions=values))
        prompt = policy.processor.encode_observation(observations[0])["input_ids"]
        expected = vocabulary - np.digitize(values.reshape(-1), edges)
        np.testing.assert_array_equal(item["input_ids"], [*prompt, *expected, policy.tokenizer.eos_token_id])
        np.testing.assert_array_equal(item["labels"][-5:], item["input_ids"][-5:])
        assert (item["labels"][: len(prompt)] == -100).all()
    (chunk,) = policy.predict_chunks(observations[:1])
    assert ((vocabulary - 256 <= chunk.tokens) & (chunk.tokens < vocabulary)).all()
    policy.save(tmp_path)
    again: Any = load_policy(tmp_path)
    np.testing.assert_array_equal(again.predict_chunks(observations[:1])[0].tokens, chunk.tokens)
    together = again.predict_chunks(observations)  # prompts of several lengths, padded
    np.testing.assert_array_equal(together[0].tokens, chunk.tokens)
