"""Tokenizers of checkpoints: read as they stand, written so that the originals read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from openvla_toolkit.core.errors import CheckpointError, MissingFile

__all__ = ["read_tokenizer", "write_tokenizer"]

_CONFIG = "tokenizer_config.json"
_ANY_CLASS = "PreTrainedTokenizerFast"
_OF_THIS_SESSION = ("backend", "is_local", "local_files_only")
_KNOWN_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast", "CodeGenTokenizer", "CodeGenTokenizerFast")


def read_tokenizer(source: str, *, pad_token: str = "<PAD>") -> PreTrainedTokenizerFast:
    """Read the tokenizer of a checkpoint from a folder or the hub; ``pad_token`` is added where it has none.

    A folder's ``tokenizer.json`` is taken as it stands: building it anew from its class, as ``AutoTokenizer``
    does, may change how white space is split.

    Raises:
        CheckpointError: the folder's file is missing or damaged.
        MissingFile: the hub's cache has none and the hub cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        place = folder / "tokenizer.json"
        try:
            json.loads(place.read_text(encoding="utf-8"))  # the library's complaint does not name the file
            tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{place} is missing or damaged: {error}.") from error
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
        except (OSError, ValueError) as error:
            raise MissingFile(
                f"the tokenizer '{source}' cannot be had from the hub: connect and log in (hf auth login), "
                "or give another one with 'tokenizer' (a folder or hub id)."
            ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    tokenizer.padding_side = "right"
    return tokenizer  # type: ignore[no-any-return]


def write_tokenizer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, *, max_length: int, processor: bool = False
) -> None:
    """Write a tokenizer's files under a class name that every release of transformers knows.

    Args:
        max_length: longest sequence of ids that the model was trained on.
        processor: name the original's processor, as its converter does.
    """
    source = Path(str(tokenizer.name_or_path)) / _CONFIG
    tokenizer.save_pretrained(folder)
    before = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
    now = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    settings = {**before, **{key: value for key, value in now.items() if value is not None}}
    names = (before.get("tokenizer_class"), now.get("tokenizer_class"))
    settings["tokenizer_class"] = next((name for name in names if name in _KNOWN_CLASSES), _ANY_CLASS)
    settings["model_max_length"] = max_length
    if processor:
        settings["processor_class"] = "PrismaticProcessor"
    settings["added_tokens_decoder"] = _added(tokenizer)
    for key in _OF_THIS_SESSION:
        settings.pop(key, None)
    _write_json(folder / _CONFIG, settings)
    _write_json(folder / "special_tokens_map.json", _special(tokenizer))
    _join_merges(folder / "tokenizer.json")


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, Any]]:
    """Return ``special_tokens_map.json``."""
    by_text = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    given = ((name, by_text.get(str(text))) for name, text in tokenizer.special_tokens_map.items())
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word")
    return {name: {flag: getattr(token, flag) for flag in flags} for name, token in given if token}


def _join_merges(place: Path) -> None:
    """Write merges as ``"a b"``: tokenizers before 0.20, which the originals pin, know no pairs.

    Where a piece holds a blank only pairs can say it, and they stay.
    """
    data = json.loads(place.read_text(encoding="utf-8"))
    merges = data.get("model", {}).get("merges") or []
    if merges and all(isinstance(pair, list) and not any(" " in piece for piece in pair) for pair in merges):
        data["model"]["merges"] = [" ".join(pair) for pair in merges]
        text = json.dumps(data, indent=2, ensure_ascii=False)
        place.write_text(text, encoding="utf-8")


def _write_json(place: Path, data: Any) -> None:
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
    place.write_text(text + "\n", encoding="utf-8")


def _added(tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, Any]]:
    """Return the special tokens by id, as releases before 5 want them."""
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {
        str(number): {flag: getattr(token, flag) for flag in flags}
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
    }
