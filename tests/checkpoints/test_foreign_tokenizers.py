"""A tokenizer that is not the model's is refused, in every format: its answers would only look plausible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.checkpoints.tokenizer_files import write_tokenizer
from openvla_toolkit.core.errors import CheckpointError
from tests.checkpoints.small_models import as_the_original, saved

# isort: split
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

ROWS, IDS_OF_TEXT = 1344, 1300
"""Of the small models."""


def ours(folder: Path) -> Path:
    return saved(folder)


def published(folder: Path) -> Path:
    return as_the_original(saved(folder))


def run(folder: Path) -> Path:
    convert(saved(folder.with_name("policy")), folder, to="prismatic")
    return as_the_original(folder)


def tokenizer_of(words: int, folder: Path) -> str:
    """Write a tokenizer with this many ids of text."""
    names = ["<s>", "</s>", *map(str, range(words - 2))]
    model = models.BPE({name: number for number, name in enumerate(names)}, [])
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=Tokenizer(model), bos_token="<s>", eos_token="</s>", pad_token="<PAD>")
    write_tokenizer(tokenizer, folder, max_length=77)
    return str(folder)


@pytest.mark.parametrize("made", [ours, published, run])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (500, rf"tokenizer\.json has 500 ids of text, and .* was trained with {IDS_OF_TEXT}: it belongs to"),
        (ROWS, rf"tokenizer\.json has {ROWS + 1} ids, and .* has embeddings for {ROWS}: it belongs to"),
    ],
)
def test_another_models_tokenizer_is_refused(
    tmp_path: Path, made: Callable[[Path], Path], words: int, message: str
) -> None:
    checkpoint = made(tmp_path / "checkpoint")
    foreign = tokenizer_of(words, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match=message):
        load_policy(checkpoint, tokenizer=foreign)
    with pytest.raises(CheckpointError, match=message):
        convert(checkpoint, tmp_path / "new", to="hf", tokenizer=foreign)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("made", [ours, published, run])
def test_the_models_own_is_taken_from_anywhere(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    checkpoint = made(tmp_path / "checkpoint")
    same = saved(tmp_path / "same")
    assert len(load_policy(checkpoint, tokenizer=str(same)).statistics) == 1
