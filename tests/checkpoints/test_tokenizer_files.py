"""Tokenizers are written so that the originals' releases of the libraries read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from openvla_toolkit.checkpoints.tokenizer_files import read_tokenizer, write_tokenizer
from openvla_toolkit.core.errors import CheckpointError, MissingFile


def pieces(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with these merges."""
    words = ["<s>", "a", "b", " ", *("".join(pair) for pair in merges)]
    bpe = models.BPE({word: number for number, word in enumerate(words)}, list(merges))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(bpe), bos_token="<s>")


def merges_in(folder: Path) -> list[object]:
    merges: list[object] = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    return merges


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write_tokenizer(pieces(("a", "b")), tmp_path, max_length=77, processor=True)
    again = read_tokenizer(str(tmp_path))
    assert again.encode("ab") == [4]
    assert (again.model_max_length, again.pad_token, again.padding_side) == (77, "<PAD>", "right")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["processor_class"] == "PrismaticProcessor"
    assert settings["added_tokens_decoder"]["0"]["content"] == "<s>"
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["bos_token"]["content"] == "<s>"


def test_merges_are_strings_unless_a_piece_holds_a_blank(tmp_path: Path) -> None:
    for name, pair, written in [("plain", ("a", "b"), "a b"), ("blank", ("a", " "), ["a", " "])]:
        (tmp_path / name).mkdir()
        write_tokenizer(pieces(pair), tmp_path / name, max_length=10)
        assert merges_in(tmp_path / name) == [written]
        assert read_tokenizer(str(tmp_path / name)).encode("".join(pair)) == [4]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing or damaged"):
        read_tokenizer(str(tmp_path))


def test_a_tokenizer_that_only_the_hub_has_says_how_to_give_another() -> None:
    with pytest.raises(MissingFile, match=r"'nobody/nothing' cannot be had .* with 'tokenizer'"):
        read_tokenizer("nobody/nothing")
