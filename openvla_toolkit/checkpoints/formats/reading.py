"""From a source of any format to what it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from openvla_toolkit.checkpoints.formats import hugging_face, lora, prismatic_run, toolkit
from openvla_toolkit.checkpoints.formats.content import Content, read_json
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE, BLOCK, CONFIG_FILE
from openvla_toolkit.checkpoints.locate import locate

__all__ = ["read_content"]


def read_content(
    source: str | Path, *, base: str | Path | None = None, merge: bool = True, tokenizer: str | None = None
) -> Content:
    """Describe a checkpoint: the toolkit's, a Hugging Face folder, a training run or its ``.pt``, an adapter.

    Args:
        base: what an adapter is put on; None takes what it was trained on.
        merge: add an adapter to the weights; else it is kept apart (``Content.adapter``).
        tokenizer: a folder or hub id in place of the checkpoint's own.

    Raises:
        MissingFile: nothing goes by that name.
        CheckpointError: it is damaged, or of no known format.
    """
    place = locate(source)
    if (place / ADAPTER_FILE).is_file():
        under = read_content(base or lora.base_of(place))
        content = lora.merged(under, place) if merge else replace(under, adapter=place)
    elif prismatic_run.is_run(place):
        content = prismatic_run.read(place)
    elif BLOCK in read_json(place / CONFIG_FILE):
        content = toolkit.read(place)
    else:
        content = hugging_face.read(place)
    return content if tokenizer is None else replace(content, tokenizer=tokenizer)
