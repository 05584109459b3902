"""What a checkpoint of any format holds: settings, statistics, and tensors that are read when asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.contract import Contract, Interface
from openvla_toolkit.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FROM_TOKENIZER", "UNKNOWN_ROBOT", "Content", "field", "read_json", "tokens_head"]

FROM_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
"""Settings of a language model that its tokenizer decides."""

UNKNOWN_ROBOT = Interface(cameras={}, action=(), control_hz=1.0)
"""The robot of a checkpoint that does not describe it: the originals', and models of conversations only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A checkpoint as the toolkit understands it."""

    place: str
    """How it is called in errors."""
    policy: Mapping[str, Any]
    """Settings of the policy, as a recipe says them."""
    text_config: Mapping[str, Any]
    """The language model's architecture, as ``transformers`` says it."""
    contract: Contract
    statistics: Mapping[str, Any]
    """``dataset_statistics.json``."""
    tokenizer: str
    """A folder or a hub id."""
    tensors: Callable[[], Iterable[tuple[str, Tensor]]]
    """Reads names (those of published Hugging Face checkpoints) and tensors, lazily."""
    pad_token: str = "<PAD>"
    """Added to a tokenizer that has no padding token."""
    assumed: frozenset[str] = frozenset()
    """Settings that the checkpoint does not state and that were inferred; others may be given for them."""
    is_run: bool = False
    """Whether it is a training run of the original, whose numbers are those it was trained with."""
    adapter: Path | None = None
    """Folder of a LoRA adapter to put beside the weights; None where there is none, or it is merged."""


def read_json(place: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} is missing or damaged: {error}.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{place} is damaged: it holds no JSON object.")
    return data


def field(data: Mapping[str, Any], path: str, kind: type | tuple[type, ...], *, place: str | Path) -> Any:
    """Return the value at a dotted path.

    Raises:
        CheckpointError: it is missing, or of another type; says which field, what was expected and found.
    """
    value: Any = data
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise CheckpointError(f"{place} has no field '{path}'.")
        value = value[key]
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(one.__name__ for one in kinds)
        raise CheckpointError(f"{place}: '{path}' is {value!r}; {names} is expected.")
    return value


def tokens_head(bins: int = 256) -> dict[str, Any]:
    """Return the settings of the originals' action head."""
    return {"name": "tokens", "action_tokenizer": {"name": "uniform-bins", "bins": bins}}
