"""Published models by name: Prismatic vision-language models, OpenVLA policies and their configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from openvla_toolkit.catalog.sizes import model_parameters
from openvla_toolkit.catalog.tables import entry, table
from openvla_toolkit.core.errors import UserError, did_you_mean

__all__ = [
    "Architecture",
    "ModelEntry",
    "available_model_names",
    "available_models",
    "get_model_description",
    "known_ids",
    "model_entry",
    "vla_configuration",
    "vlm_configuration",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a Prismatic model is made of."""

    vision_backbone: str
    language_model: str
    arch: str
    """The original's name of the projector; ``no-align+`` in front where it was not trained alone first."""
    resize: str

    @property
    def projector(self) -> str:
        """Return ``linear``, ``gelu-mlp`` or ``fused-gelu-mlp``."""
        return self.arch.removeprefix("no-align+")

    def parameters(self) -> int:
        """Return the exact number of parameters."""
        return model_parameters(
            vision_backbone=self.vision_backbone,
            language_model=self.language_model,
            projector=self.projector,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model that the catalog knows."""

    id: str
    kind: Literal["vlm", "policy", "configuration"]
    """A vision-language model, a released policy, or a configuration that policies were trained with."""
    names: tuple[str, ...]
    """Further names it goes by."""
    description: dict[str, Any]
    architecture: Architecture
    repository: str | None
    """Where the hub has its weights; None where none were released."""
    folder: str
    """Folder inside the repository; empty for the whole of it."""
    files: tuple[str, ...] = ()
    """The files in that folder which make the model; empty for all that a Hugging Face model has."""

    @property
    def title(self) -> str:
        """Return one line for lists."""
        return str(self.description.get("name") or self.description.get("description") or self.id)


def available_models() -> list[str]:
    """Return the ids of all models with released weights, each of which ``load_policy`` takes.

    First the 49 Prismatic vision-language models, then the OpenVLA policies.
    """
    return [*(name for name in _vlms() if _vlms()[name].get("released", True)), *_policies()]


def available_model_names() -> dict[str, tuple[str, ...]]:
    """Return id -> further names, for all of ``available_models()``."""
    return {name: model_entry(name).names for name in available_models()}


def get_model_description(name: str) -> dict[str, Any]:
    """Describe a model, given by id or any further name.

    Raises:
        UserError: no model goes by that name.
    """
    return dict(model_entry(name).description)


def known_ids() -> list[str]:
    """Return the ids of everything in the catalog, with released weights or without."""
    return [*_vlms(), *_policies(), *_configurations()]


def model_entry(name: str) -> ModelEntry:
    """Return what is known of a model, given by id or any further name.

    Raises:
        UserError: no model goes by that name.
    """
    if name in _policies():
        return _policy(name)
    if name in _configurations():
        return _configuration(name)
    by_name = {also: one for one in _vlms() for also in (one, *_vlms()[one].get("names", ()))}
    if name in by_name:
        return _vlm(by_name[name])
    near = did_you_mean(name, [*by_name, *_policies(), *_configurations()])
    raise UserError(f"the catalog has no model '{name}'.{near} 'openvla models list' shows all.")


def vlm_configuration(name: str) -> dict[str, Any]:
    """Return all fields that a vision-language model was trained with, under the original's names.

    Raises:
        UserError: there is no such model.
    """
    facts = entry(_vlms(), name, what="vision-language model")
    return {
        "model_id": name,
        "arch_specifier": facts["arch"],
        "vision_backbone_id": facts["vision_backbone"],
        "llm_backbone_id": facts["language_model"],
        "image_resize_strategy": facts["resize"],
        **table("vlms")["training"],
        **facts.get("training", {}),
    }


def vla_configuration(name: str) -> dict[str, Any]:
    """Return all fields that an OpenVLA configuration has, under the original's names.

    Raises:
        UserError: there is no such configuration.
    """
    own = dict(entry(_configurations(), name, what="configuration"))
    own.pop("stage")
    return {"vla_id": name, **table("vla_configs")["training"], **own}


def _vlm(name: str) -> ModelEntry:
    facts = _vlms()[name]
    released = facts.get("released", True)
    return ModelEntry(
        id=name,
        kind="vlm",
        names=tuple(facts.get("names", ())),
        description=facts.get("description", {"name": "configured by the original, never released"}),
        architecture=_architecture(name),
        repository=table("vlms")["hub_repository"] if released else None,
        folder=name,
        files=tuple(table("vlms")["files"]),
    )


def _policy(name: str) -> ModelEntry:
    facts = _policies()[name]
    return ModelEntry(
        id=name,
        kind="policy",
        names=(),
        description={**facts, "name": facts["description"]},
        architecture=_architecture(facts["base_vlm"]),
        repository=name,
        folder="",
        files=tuple(facts.get("files", ())),
    )


def _configuration(name: str) -> ModelEntry:
    facts = _configurations()[name]
    return ModelEntry(
        id=name,
        kind="configuration",
        names=(),
        description={"name": f"{facts['stage']} of {facts['base_vlm']} on {facts['data_mix']}", **facts},
        architecture=_architecture(facts["base_vlm"]),
        repository=None,
        folder="",
    )


def _architecture(vlm: str) -> Architecture:
    facts = _vlms()[vlm]
    keys = ("vision_backbone", "language_model", "arch", "resize")
    return Architecture(**{key: facts[key] for key in keys})


def _vlms() -> dict[str, Any]:
    models: dict[str, Any] = table("vlms")["models"]
    return models


def _policies() -> dict[str, Any]:
    policies: dict[str, Any] = table("policies")["policies"]
    return policies


def _configurations() -> dict[str, Any]:
    configurations: dict[str, Any] = table("vla_configs")["configurations"]
    return configurations
