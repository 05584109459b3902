"""Linear layers in 8 or 4 bits, by bitsandbytes."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import nn

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.policies.prismatic.model import PrismaticModel

__all__ = ["quantize"]


def quantize(model: PrismaticModel, bits: Literal["8bit", "4bit"]) -> None:
    """Replace the linear layers of the language model, its output layer excepted, one at a time.

    Like the original, which handed ``load_in_8bit`` and ``load_in_4bit`` to transformers (4 bits: nf4). The
    numbers are rounded when the model is moved to its device.

    Raises:
        MissingDependency: bitsandbytes is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels that it can do without
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingDependency(
            f"loading in {bits}", "bitsandbytes", install="openvla-toolkit[quantization]"
        ) from error
    decoder: Any = model.language_model.base_model
    for parent in list(decoder.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, _quantized(layer, bits, bitsandbytes.nn))


def _quantized(layer: nn.Linear, bits: str, library: Any) -> nn.Module:
    shape = (layer.in_features, layer.out_features)
    weight, bias = layer.weight.data, layer.bias is not None
    with torch.device("meta"):
        made: Any = (
            library.Linear8bitLt(*shape, bias=bias, has_fp16_weights=False)
            if bits == "8bit"
            else library.Linear4bit(*shape, bias=bias, compute_dtype=weight.dtype, quant_type="nf4")
        )
    if bits == "8bit":
        made.weight = library.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        made.weight = library.Params4bit(weight, requires_grad=False, quant_type="nf4", module=made)
        # Else some CPUs repack the weights when the policy first acts and round their scales: an evaluation
        # before or during the training of an adapter would change what it is trained on.
        made.support_avx512bf16_for_cpu = False
    made.bias = layer.bias
    made.requires_grad_(False)
    return made  # type: ignore[no-any-return]
