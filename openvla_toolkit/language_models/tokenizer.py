"""Tokenizers: shipped ones, folders and the hub's, each with a padding token."""

from __future__ import annotations

from pathlib import Path

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from openvla_toolkit.core.errors import MissingFile, UserError

__all__ = ["PAD_TOKEN", "open_tokenizer"]

PAD_TOKEN = "<PAD>"
_SHIPPED = Path(__file__).with_name("tokenizers")


def open_tokenizer(source: str, *, pad_token: str = PAD_TOKEN) -> PreTrainedTokenizerFast:
    """Open a tokenizer by shipped name, folder or hub id; ``pad_token`` is added where it has none.

    A folder's ``tokenizer.json`` is taken as it stands: building it anew from its class, as ``AutoTokenizer``
    does, may change how white space is split.

    Raises:
        MissingFile: there is no such tokenizer.
        UserError: it has no fast form.
    """
    folder = _SHIPPED / source if (_SHIPPED / source).is_dir() else Path(source)
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
    except (OSError, ValueError) as error:
        shipped = ", ".join(sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()))
        raise MissingFile(
            f"no tokenizer '{source}': it is none of the shipped ones ({shipped}), no folder with "
            "tokenizer.json, and cannot be had from the hub."
        ) from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer '{source}' has no fast form (tokenizer.json), which is needed.")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    tokenizer.padding_side = "right"
    return tokenizer  # type: ignore[no-any-return]
