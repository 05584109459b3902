"""Causal language models of ``transformers`` with room for a padding token."""

from __future__ import annotations

from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from openvla_toolkit.core.errors import MissingFile, UserError
from openvla_toolkit.interfaces.language_model import LanguageModel
from openvla_toolkit.language_models import CausalLMConfig
from openvla_toolkit.language_models.tokenizer import open_tokenizer

__all__ = ["build"]


def build(config: CausalLMConfig) -> LanguageModel:
    """Make module and tokenizer; the module has one embedding row per id, rounded up."""
    tokenizer = open_tokenizer(config.tokenizer or str(config.weights), pad_token=config.pad_token)
    module = _fresh(config, tokenizer) if config.weights is None else _pretrained(config, tokenizer)
    module.config.pad_token_id = tokenizer.pad_token_id
    return LanguageModel(module=module, tokenizer=tokenizer)


def _fresh(config: CausalLMConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    rows = -(-len(tokenizer) // config.pad_to_multiple_of) * config.pad_to_multiple_of
    settings: dict[str, Any] = {
        **config.settings,
        "vocab_size": rows,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if config.init_std is not None:
        settings["initializer_range"] = config.init_std
    try:
        architecture = AutoConfig.for_model(str(config.model_type), **settings)
        module: PreTrainedModel = AutoModelForCausalLM.from_config(
            architecture, attn_implementation=config.attention
        )
    except (ValueError, KeyError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"transformers cannot make '{config.model_type}' with {config.settings}: {reason}."
        ) from error
    if config.embedding_std is not None:
        _draw(module.get_input_embeddings(), config.embedding_std)
    if config.output_std is not None:
        _draw(module.get_output_embeddings(), config.output_std)
    return module


def _pretrained(config: CausalLMConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    try:
        module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(config.weights), dtype="float32", attn_implementation=config.attention
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise MissingFile(
            f"no language model in '{config.weights}' (a folder or a hub id): {reason}"
        ) from error
    module.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=config.pad_to_multiple_of)
    return module


def _draw(layer: nn.Module, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)  # type: ignore[arg-type]
