"""From a source of any format to what it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from openvla_toolkit.catalog.models import model_entry, vlm_configuration
from openvla_toolkit.checkpoints.formats import fingerprint, hugging_face, lora, prismatic_run, toolkit
from openvla_toolkit.checkpoints.formats.content import Content, read_json
from openvla_toolkit.checkpoints.formats.plain import is_own
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE, CONFIG_FILE, STATISTICS_FILE
from openvla_toolkit.checkpoints.locate import at_hand, locate
from openvla_toolkit.core.errors import MissingFile, UserError

__all__ = ["outlined_content", "read_content"]


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
        under = fingerprint.checked(_under(place, base), place)
        content = lora.merged(under, place) if merge else replace(under, adapter=place)
        content = replace(content, statistics={**under.statistics, **_statistics_beside(place)})
    elif prismatic_run.is_run(place):
        content = prismatic_run.read(place)
    elif is_own(place):
        content = toolkit.read(place)
    else:
        content = hugging_face.read(place)
    return content if tokenizer is None else replace(content, tokenizer=tokenizer)


def outlined_content(
    source: str | Path, *, base: str | Path | None = None, merge: bool = True
) -> Content | None:
    """Describe a checkpoint without fetching anything; None where it is not here and not in the catalog.

    Of a model that is not here, the catalog tells what it is made of; there are no tensors to read then.

    Raises:
        CheckpointError: it is damaged, or of no known format.
        MissingFile: nothing goes by that name.
    """
    place = at_hand(source)
    if place is not None and (place / ADAPTER_FILE).is_file():
        under = base or lora.base_of(place)
        return read_content(place, base=base, merge=merge) if at_hand(under) else outlined_content(under)
    if place is not None:
        return read_content(place)
    try:
        entry = model_entry(str(source))
    except UserError:
        return None
    model = vlm_configuration(entry.description.get("base_vlm", entry.id))
    return prismatic_run.described(model, place=str(source), sizes={})


def _under(adapter: Path, base: str | Path | None) -> Content:
    """Describe what an adapter is put on: by its own settings where the toolkit trained it, else the base's.

    Raises:
        MissingFile: the base is not there; says how to name another.
    """
    source = base or lora.base_of(adapter)
    try:
        under = read_content(source)
    except MissingFile as error:
        raise MissingFile(
            f"{adapter} is an adapter of '{source}': {error} If the base lies elsewhere, give it as 'base'."
        ) from error
    if not ((adapter / CONFIG_FILE).is_file() and is_own(adapter)):
        return under
    return replace(
        toolkit.read(adapter),
        tensors=under.tensors,
        shapes=under.shapes,
        pad_token=under.pad_token,
        place=under.place,
    )


def _statistics_beside(adapter: Path) -> dict[str, Any]:
    """Return the statistics of the data that an adapter was trained on; they take precedence."""
    place = adapter / STATISTICS_FILE
    return read_json(place) if place.is_file() else {}
