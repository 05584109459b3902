"""The catalog in words, for ``openvla models list`` and ``openvla models describe``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from openvla_toolkit.catalog.backbones import language_entry, vision_entry
from openvla_toolkit.catalog.models import (
    ModelEntry,
    known_ids,
    model_entry,
    vla_configuration,
    vlm_configuration,
)

__all__ = ["described", "description_page", "listed", "listing_page"]

_HEADINGS = {
    "policy": "OpenVLA policies",
    "vlm": "Prismatic vision-language models",
    "configuration": "Configurations that OpenVLA policies were trained with (no weights)",
}
_SAID = {"name", "description", "prompt", "format", "files", "language_model", "visual_representation"}
"""Keys of a description that the page says in its own way."""
_WIDTH, _LABEL = 108, 27


def listed() -> list[dict[str, Any]]:
    """Return one plain record per model of the catalog."""
    return [
        {
            "id": model.id,
            "kind": model.kind,
            "title": model.title,
            "parameters": model.architecture.parameters(),
            "released": model.repository is not None,
        }
        for model in map(model_entry, known_ids())
    ]


def listing_page(*, shipped: Sequence[str] = ()) -> str:
    """Return the whole catalog as text; ``shipped`` are policies that come with the package."""
    records = listed()
    width = max(len(record["id"]) for record in records) + 2
    lines = []
    for kind, heading in _HEADINGS.items():
        lines += [f"{heading}:"]
        lines += [
            f"  {record['id']:{width}}{_billions(record['parameters']):>7}  {record['title']}"
            + ("" if record["released"] or kind == "configuration" else "  (no weights)")
            for record in records
            if record["kind"] == kind
        ]
        lines += [""]
    if shipped:
        lines += ["Shipped with the toolkit:", *(f"  {name}" for name in shipped), ""]
    return "\n".join([*lines, "'openvla models describe ID' tells more about one."])


def described(name: str) -> dict[str, Any]:
    """Return all that the catalog knows of a model, as plain data.

    Raises:
        UserError: no model goes by that name.
    """
    model = model_entry(name)
    parts = model.architecture
    vision, language = vision_entry(parts.vision_backbone), language_entry(parts.language_model)
    return {
        "id": model.id,
        "kind": model.kind,
        "names": list(model.names),
        "description": model.description,
        "parameters": parts.parameters(),
        "vision_backbone": {
            "id": vision.id,
            "timm_models": list(vision.towers),
            "image_size": vision.image_size,
            "patches": vision.num_patches,
            "width": vision.embed_dim,
            "resize": parts.resize,
        },
        "projector": parts.projector,
        "language_model": {
            "id": language.id,
            "hub_id": language.hub_id,
            "width": language.hub["hidden_size"],
            "prompt": language.prompt,
        },
        "weights": _weights(model),
        "training": _training(model),
    }


def description_page(name: str) -> str:
    """Return all that the catalog knows of a model, as text.

    Raises:
        UserError: no model goes by that name.
    """
    facts = described(name)
    vision, language, about = facts["vision_backbone"], facts["language_model"], facts["description"]
    lines = [facts["id"], f"  {model_entry(name).title}", ""]
    rows = {
        "also called": ", ".join(facts["names"]),
        "parameters": f"{facts['parameters']:,}",
        "pictures": f"{vision['image_size']} x {vision['image_size']} pixels, {vision['resize']}",
        "vision": f"{vision['id']}: {' + '.join(vision['timm_models'])}, "
        f"{vision['patches']} patches of width {vision['width']}",
        "projector": facts["projector"],
        "language": f"{language['id']}: {language['hub_id']}, width {language['width']}",
        "prompt": about.get("prompt", language["prompt"]),
        "weights": facts["weights"] or "none were released",
        **{_words(key): _told(value) for key, value in about.items() if key not in _SAID},
        "training": _told(facts["training"]),
    }
    for label, value in rows.items():
        if value:
            lines.append(_filled(label, value))
    return "\n".join(lines)


def _weights(model: ModelEntry) -> str | None:
    if model.repository is None:
        return None
    return "/".join(filter(None, (f"https://huggingface.co/{model.repository}", _inside(model))))


def _inside(model: ModelEntry) -> str:
    return f"tree/main/{model.folder}" if model.folder else ""


def _training(model: ModelEntry) -> dict[str, Any]:
    """Return the hyper-parameters of training, what the description says already left out."""
    if model.kind == "policy":
        return {}
    configuration = vlm_configuration(model.id) if model.kind == "vlm" else vla_configuration(model.id)
    said = {"model_id", "vla_id", "arch_specifier", "vision_backbone_id", "llm_backbone_id"}
    said |= {"image_resize_strategy", *model.description}
    if model.architecture.arch.startswith("no-align+"):
        said |= {key for key in configuration if key.startswith("align_")}
    return {key: value for key, value in configuration.items() if key not in said and value is not None}


def _filled(label: str, text: str) -> str:
    """Return a labelled paragraph; ids and addresses are not broken."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"  {label:{_LABEL - 2}}",
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
