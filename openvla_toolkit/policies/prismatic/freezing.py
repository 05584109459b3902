"""Which parts of a Prismatic model are trained: by part, or by the original's training stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from openvla_toolkit.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

__all__ = ["STAGES", "Part", "freeze", "parameters_of", "stage_parts", "trained_parts", "withhold"]

Part = Literal["vision_backbone", "projector", "language_model", "language_model_body"]
"""``language_model_body`` is all of the language model but its embeddings, last block and output layer."""

_LAST_LAYERS: tuple[Part, ...] = ("vision_backbone", "projector", "language_model_body")

STAGES: dict[str, tuple[Part, ...]] = {
    "align": ("vision_backbone", "language_model"),
    "finetune": ("vision_backbone",),
    "vla-train": ("vision_backbone",),
    "full-finetune": (),
    "vla-full-train": (),
    "last-layer-finetune": _LAST_LAYERS,
    "vla-last-layer-train": _LAST_LAYERS,
    "vla-sandwich-train": ("language_model_body",),
}
"""What each training stage of the original leaves as it is."""


def stage_parts(stage: str) -> tuple[Part, ...]:
    """Return what a stage freezes.

    Raises:
        UserError: there is no such stage.
    """
    if stage not in STAGES:
        raise UserError(f"no stage '{stage}'.{did_you_mean(stage, STAGES)} Stages: {', '.join(STAGES)}.")
    return STAGES[stage]


def trained_parts(stage: str) -> tuple[str, ...]:
    """Return the modules of which a stage trains at least something: those the original then stores.

    Raises:
        UserError: there is no such stage.
    """
    frozen = stage_parts(stage)
    return tuple(part for part in ("vision_backbone", "projector", "language_model") if part not in frozen)


def freeze(model: Any, parts: Iterable[Part]) -> None:
    """Freeze these parts of a model and train all others.

    What a vision backbone never executes (its last block, norms and pooling head) takes no gradient and
    stays frozen in any case.

    Args:
        model: has ``vision_backbone``, ``projector`` and ``language_model``.
    """
    for name in ("vision_backbone", "projector", "language_model"):
        getattr(model, name).requires_grad_(True)
    unused = getattr(model.vision_backbone, "never_executed", None)
    for module in () if unused is None else unused():
        module.requires_grad_(False)
    withhold(model, parts)


def withhold(model: Any, parts: Iterable[Part]) -> None:
    """Freeze these parts of a model and leave the others as they are.

    Raises:
        UserError: the language model's last block cannot be told from the others.
    """
    for part in parts:
        for parameter in parameters_of(model, part):
            parameter.requires_grad_(False)


def parameters_of(model: Any, part: Part) -> Iterator[nn.Parameter]:
    """Yield the parameters of a part of a model.

    Raises:
        UserError: the language model's last block cannot be told from the others.
    """
    if part != "language_model_body":
        yield from getattr(model, part).parameters()
        return
    kept = {parameter for module in _ends(model.language_model) for parameter in module.parameters()}
    yield from (parameter for parameter in model.language_model.parameters() if parameter not in kept)


def _ends(language_model: Any) -> list[nn.Module]:
    """Return embeddings, last block and output layer.

    Raises:
        UserError: the architecture has no list of blocks.
    """
    layers = getattr(language_model.base_model, "layers", None)
    if not layers:
        raise UserError(
            f"{type(language_model).__name__} has no 'layers', so its last one cannot be trained alone; "
            "freeze 'language_model' as a whole."
        )
    return [language_model.get_input_embeddings(), layers[-1], language_model.get_output_embeddings()]
