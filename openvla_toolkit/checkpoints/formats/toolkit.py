"""The toolkit's own checkpoints: a Hugging Face folder with the policy's settings and contract beside."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from openvla_toolkit.checkpoints.formats.content import Content, field, read_json
from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE, CONTRACT_FILE, STATISTICS_FILE
from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.errors import CheckpointError

__all__ = ["read"]


def read(folder: Path) -> Content:
    """Describe a checkpoint that the toolkit wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    from openvla_toolkit.checkpoints.tensors import read_tensors

    place = folder / CONFIG_FILE
    config = read_json(place)
    return Content(
        place=str(folder),
        policy=field(config, f"{BLOCK}.policy", dict, place=place),
        text_config=field(config, "text_config", dict, place=place),
        contract=_contract(folder),
        statistics=read_json(folder / STATISTICS_FILE),
        tokenizer=str(folder),
        tensors=lambda: read_tensors(folder),
    )


def _contract(folder: Path) -> Contract:
    place = folder / CONTRACT_FILE
    try:
        return Contract.model_validate_json(place.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{place} is missing or damaged: {str(error).splitlines()[0]}.") from error
