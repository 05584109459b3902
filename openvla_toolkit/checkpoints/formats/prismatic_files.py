"""Training runs of Prismatic and OpenVLA, written so that the original's ``load`` and ``load_vla`` read them.

A run has no place for numbers that differ from the published language model (``rms_norm_eps``), for rounded
colours or for other sizes. The toolkit keeps them in a block of its own in ``config.json``, which the
original ignores: it runs the same weights with its own numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.catalog.backbones import vision_entry
from openvla_toolkit.catalog.models import (
    Architecture,
    known_ids,
    model_entry,
    vla_configuration,
    vlm_configuration,
)
from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.formats.hugging_face_files import Ids
from openvla_toolkit.checkpoints.formats.key_names import MODULES, to_native
from openvla_toolkit.checkpoints.formats.prismatic_run import LATEST
from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE, STATISTICS_FILE
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.storage import storage_errors

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

__all__ = ["checkpoint_name", "write"]

_LAYERS = {"linear": 1, "gelu-mlp": 2, "fused-gelu-mlp": 3}


def checkpoint_name(*, step: int, epoch: int, loss: float | None) -> str:
    """Return what the original calls a checkpoint; a loss that is not known is ``inf``."""
    told = "inf" if loss is None else f"{loss:.4f}"
    return f"step-{step:06d}-epoch-{epoch:02d}-loss={told}.pt"


def write(
    folder: Path,
    content: Content,
    *,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype | None = None,
    step: int = 0,
    epoch: int = 0,
    loss: float | None = None,
) -> None:
    """Write a training run with one checkpoint into an empty folder.

    Args:
        dtype: number type on disk; None keeps each tensor's.
        step: what the checkpoint's name says, as ``epoch`` and ``loss``.

    Raises:
        UserError: the originals have no such vision backbone or language model.
        StorageError: the disk is full or refuses to be written.
    """
    import torch
    import yaml

    from openvla_toolkit.checkpoints.tokenizer_files import write_tokenizer

    config = {**_config(content), BLOCK: _block(content)}
    modules = _modules(content, dtype)
    with storage_errors(folder):
        (folder / "checkpoints").mkdir()
        file = folder / "checkpoints" / checkpoint_name(step=step, epoch=epoch, loss=loss)
        torch.save({"model": modules}, file)
        _same_file(file, folder / "checkpoints" / LATEST)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        plain = json.loads(json.dumps(config))
        (folder / CONFIG_FILE).with_suffix(".yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
        if content.statistics:
            text = json.dumps(content.statistics, indent=2) + "\n"
            (folder / STATISTICS_FILE).write_text(text, encoding="utf-8")
        write_tokenizer(tokenizer, folder, max_length=content.policy.get("max_tokens") or 2048)


def _config(content: Content) -> dict[str, Any]:
    """Return ``config.json`` of the training run that would have made this model, as far as it is told."""
    ids = Ids.of(content.policy)
    if ids.vision is None or ids.language is None:
        part = "vision backbone" if ids.vision is None else "language model"
        raise UserError(
            f"{content.place} cannot become a training run: the originals have no id for its {part}; convert "
            "it '--to hf', which takes any."
        )
    projector = str(content.policy["projector"])
    made_of = (ids.vision, ids.language, projector, content.contract.images.strategy)
    entries = [entry for entry in map(model_entry, known_ids()) if _parts(entry.architecture) == made_of]
    bases = [entry.id for entry in entries if entry.kind == "vlm"]
    if content.statistics and bases:
        trained = [entry.id for entry in entries if entry.kind == "configuration"]
        base = trained and vla_configuration(trained[0])["base_vlm"]
        own = vla_configuration(trained[0]) if trained else {"base_vlm": base or bases[0]}
        name = trained[0] if trained else f"{bases[0]}+mx-converted"
        return {"run_id": name, "vla": {"type": name, **own, "vla_id": name}}
    model = vlm_configuration(bases[0]) if bases else _model(ids, projector, content)
    return {"run_id": model["model_id"], "model": {"type": model["model_id"], **model}}


def _parts(made_of: Architecture) -> tuple[str, str, str, str]:
    return made_of.vision_backbone, made_of.language_model, made_of.projector, made_of.resize


def _model(ids: Ids, projector: str, content: Content) -> dict[str, Any]:
    return {
        "model_id": f"converted-{ids.vision}+{ids.language}",
        "vision_backbone_id": ids.vision,
        "llm_backbone_id": ids.language,
        "arch_specifier": f"no-align+{projector}",
        "image_resize_strategy": content.contract.images.strategy,
        "llm_max_length": content.policy.get("max_tokens") or 2048,
    }


def _block(content: Content) -> dict[str, Any]:
    return {
        "policy": dict(content.policy),
        "text_config": dict(content.text_config),
        "contract": content.contract.model_dump(mode="json"),
    }


def _modules(content: Content, dtype: torch.dtype | None) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by module; each has memory of its own, or ``torch.save`` would write whole files."""
    vision = Ids.of(content.policy).vision
    towers = vision_entry(vision).native_prefixes if vision else ()
    layers = _LAYERS[content.policy["projector"]]
    modules: dict[str, dict[str, Tensor]] = {name: {} for name in MODULES}
    for name, value in content.tensors():
        module, key = to_native(name, towers=towers, layers=layers)
        modules[module][key] = value.to(
            dtype if dtype and value.is_floating_point() else value.dtype, copy=True
        )
    return modules


def _same_file(file: Path, name: Path) -> None:
    """Give a file a second name; where the disk knows no links, copy it."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)
